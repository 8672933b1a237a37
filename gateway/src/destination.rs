//! Destinations: the texts by which clients name rooms, and the templates behind them.

use std::fmt;
use std::str::FromStr;

use shared::message::RoomName;

const ROOM: &str = "{room}";

/// Which destinations there are. The templates are settings, so that a front end keeps the paths
/// that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    /// What SUBSCRIBE may name. SEND may too.
    pub subscribe: Vec<Template>,
    /// What only SEND may name.
    pub send: Vec<Template>,
}

impl Destinations {
    /// The room that a SUBSCRIBE names. Its MESSAGEs carry this same `destination`.
    ///
    /// Patterns (`/topic/**`) are no room names, so that nobody can subscribe to rooms that they
    /// cannot name.
    ///
    /// # Errors
    /// [`DestinationError`] when no template fits, or what stands for the room is no room name.
    pub fn subscribe_room(&self, destination: &str) -> Result<RoomName, DestinationError> {
        room(self.subscribe.iter(), destination)
    }

    /// The room that a SEND names.
    ///
    /// # Errors
    /// [`DestinationError`] when no template fits, or what stands for the room is no room name.
    pub fn send_room(&self, destination: &str) -> Result<RoomName, DestinationError> {
        room(self.send.iter().chain(&self.subscribe), destination)
    }

    /// The destination by which a SUBSCRIBE names `room`: that of the first template.
    pub fn topic(&self, room: &RoomName) -> String {
        self.subscribe
            .first()
            .map_or_else(String::new, |template| template.with(room))
    }
}

fn room<'a>(
    templates: impl Iterator<Item = &'a Template> + Clone,
    destination: &str,
) -> Result<RoomName, DestinationError> {
    let mut fits = templates
        .clone()
        .filter_map(|template| template.room(destination))
        .peekable();
    if fits.peek().is_none() {
        let known = templates
            .map(Template::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        return Err(DestinationError::Unknown { known });
    }
    fits.find_map(|text| RoomName::parse(text).ok())
        .ok_or(DestinationError::Room)
}

/// Why a text is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// No template fits.
    #[error("the destination fits none of {known}")]
    Unknown {
        /// The templates.
        known: String,
    },
    /// A template fits, but the room is impossible.
    #[error("{}", shared::message::InvalidName::Room)]
    Room,
}

/// A destination with a place for the room: `/topic/rooms/{room}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    before: Box<str>,
    after: Box<str>,
}

impl Template {
    /// The destination of one room.
    pub fn with(&self, room: &RoomName) -> String {
        format!("{}{room}{}", self.before, self.after)
    }

    /// What stands in the place of the room, where the rest fits.
    fn room<'a>(&self, destination: &'a str) -> Option<&'a str> {
        destination
            .strip_prefix(&*self.before)?
            .strip_suffix(&*self.after)
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (before, after) = text.split_once(ROOM).ok_or(TemplateError)?;
        if !before.starts_with('/') || after.contains(ROOM) || text.contains(char::is_control) {
            return Err(TemplateError);
        }
        Ok(Self {
            before: before.into(),
            after: after.into(),
        })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{ROOM}{}", self.before, self.after)
    }
}

/// Why a text is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a destination begins with / and has {ROOM} in it once, as in /topic/rooms/{ROOM}")]
pub struct TemplateError;

#[cfg(test)]
mod tests {
    use super::{DestinationError, Destinations};

    fn destinations() -> Destinations {
        Destinations {
            subscribe: vec![
                "/topic/rooms/{room}".parse().unwrap(),
                "/topic/{room}/messages".parse().unwrap(),
            ],
            send: vec!["/app/rooms/{room}".parse().unwrap()],
        }
    }

    #[test]
    fn a_room_has_one_destination_per_template() {
        let destinations = destinations();
        for destination in ["/topic/rooms/a:b", "/topic/a:b/messages"] {
            let room = destinations.subscribe_room(destination).unwrap();
            assert_eq!(room.as_str(), "a:b");
            assert_eq!(destinations.send_room(destination).unwrap(), room);
        }
        let room = destinations.send_room("/app/rooms/a:b").unwrap();
        assert_eq!(destinations.topic(&room), "/topic/rooms/a:b");
    }

    #[test]
    fn a_subscribe_does_not_name_what_is_only_sent_to() {
        let error = destinations().subscribe_room("/app/rooms/a").unwrap_err();
        assert!(matches!(error, DestinationError::Unknown { .. }));
        assert!(error.to_string().contains("/topic/rooms/{room}"), "{error}");
    }

    #[test]
    fn a_pattern_names_no_room() {
        let destinations = destinations();
        for pattern in [
            "/topic/rooms/*",
            "/topic/rooms/**",
            "/topic/rooms/a/b",
            "/topic/rooms/",
        ] {
            let error = destinations.subscribe_room(pattern).unwrap_err();
            assert_eq!(error, DestinationError::Room, "{pattern}");
        }
        for pattern in ["/topic/**", "**", ""] {
            let error = destinations.subscribe_room(pattern).unwrap_err();
            assert!(
                matches!(error, DestinationError::Unknown { .. }),
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_template_without_one_room_is_refused() {
        for text in [
            "/topic",
            "topic/{room}",
            "/topic/{room}/{room}",
            "{room}",
            "",
        ] {
            assert!(text.parse::<super::Template>().is_err(), "{text}");
        }
    }
}
