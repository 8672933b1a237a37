//! Destinations: the texts by which clients name rooms and queues of users, and the templates behind
//! them.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use shared::message::{InvalidName, RoomName, UserName};

const ROOM: &str = "{room}";

/// What the destination of every user's queue begins with.
const USER: &str = "/user/";

/// What makes a pattern in the servers from which front ends come: Ant's and RabbitMQ's.
const PATTERN: [char; 5] = ['*', '?', '#', '{', '}'];

/// Which destinations there are: queues of users, which are looked for first, and rooms by template.
/// The templates are settings, so that a front end keeps the paths that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destinations {
    /// What SUBSCRIBE may name. SEND may too.
    pub subscribe: Vec<Template>,
    /// What only SEND may name.
    pub send: Vec<Template>,
}

impl Destinations {
    /// The room that a SUBSCRIBE of `user` names; `/user/queue/x` and `/user/topic/x` are this user's
    /// own queue. Its MESSAGEs carry this same `destination`.
    ///
    /// Patterns (`/topic/**`) are refused, so that nobody can subscribe to rooms that they cannot
    /// name.
    ///
    /// # Errors
    /// [`DestinationError`] when no template fits, or what stands for the room is no room name.
    pub fn subscribe_room(
        &self,
        destination: &str,
        user: &UserName,
    ) -> Result<RoomName, DestinationError> {
        refuse_pattern(destination)?;
        match destination.strip_prefix(USER) {
            Some(queue) if is_queue(queue) => {
                RoomName::queue(user, queue).map_err(DestinationError::Queue)
            }
            Some(_) => Err(DestinationError::NotOwn),
            None => room(self.subscribe.iter(), destination, "/user/queue/…"),
        }
    }

    /// The room that a SEND names; `/user/{name}/queue/x` and `/user/{name}/topic/x` are the queue of
    /// that user, the name percent-encoded.
    ///
    /// # Errors
    /// [`DestinationError`] when no template fits, or what stands for the room is no room name.
    pub fn send_room(&self, destination: &str) -> Result<RoomName, DestinationError> {
        refuse_pattern(destination)?;
        let Some(named) = destination.strip_prefix(USER) else {
            let templates = self.send.iter().chain(&self.subscribe);
            return room(templates, destination, "/user/NAME/queue/…");
        };
        match named.split_once('/') {
            Some((name, queue)) if is_queue(queue) => {
                RoomName::queue(&user(name)?, queue).map_err(DestinationError::Queue)
            }
            _ => Err(DestinationError::NoUser),
        }
    }

    /// The destination by which a SUBSCRIBE names `room`: that of the first template.
    pub fn topic(&self, room: &RoomName) -> String {
        self.subscribe
            .first()
            .map_or_else(String::new, |template| template.with(room))
    }
}

fn refuse_pattern(destination: &str) -> Result<(), DestinationError> {
    let mut octets = destination.bytes();
    if octets.any(|octet| PATTERN.contains(&char::from(octet))) {
        return Err(DestinationError::Pattern);
    }
    Ok(())
}

fn is_queue(text: &str) -> bool {
    text.starts_with("queue/") || text.starts_with("topic/")
}

fn user(encoded: &str) -> Result<UserName, DestinationError> {
    let is_escape = |after: &str| match after.as_bytes() {
        [high, low, ..] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    };
    // A name that was not encoded must not turn into somebody else's.
    if !encoded.split('%').skip(1).all(is_escape) {
        return Err(DestinationError::Encoding);
    }
    let name = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| DestinationError::Encoding)?;
    UserName::parse(&name).map_err(DestinationError::Queue)
}

fn room<'a>(
    templates: impl Iterator<Item = &'a Template> + Clone,
    destination: &str,
    queues: &str,
) -> Result<RoomName, DestinationError> {
    let mut fits = templates
        .clone()
        .filter_map(|template| template.room(destination))
        .peekable();
    if fits.peek().is_none() {
        let known = templates
            .map(Template::to_string)
            .chain([queues.to_owned()])
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
    #[error("{}", InvalidName::Room)]
    Room,
    /// It is to name more than one room.
    #[error("patterns are refused: a destination names one room, without * ? # {{ }}")]
    Pattern,
    /// It is a user's queue, but the queue or the user is impossible.
    #[error("{0}")]
    Queue(InvalidName),
    /// A SUBSCRIBE names someone's queue otherwise than as its own.
    #[error("a SUBSCRIBE names the user's own queue: /user/queue/… or /user/topic/…")]
    NotOwn,
    /// A SEND does not name whose queue it means.
    #[error("a SEND names whose queue it means: /user/NAME/queue/… or /user/NAME/topic/…")]
    NoUser,
    /// A user's name has a percent sign that encodes nothing.
    #[error("in a user's name / is %2F and % is %25, and what is encoded is UTF-8")]
    Encoding,
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
        let (before, after) = text.split_once(ROOM).ok_or(TemplateError::Room)?;
        if !before.starts_with('/') || after.contains(ROOM) || text.contains(char::is_control) {
            return Err(TemplateError::Room);
        }
        if before.contains(PATTERN) || after.contains(PATTERN) {
            return Err(TemplateError::Pattern);
        }
        if before.starts_with(USER) {
            return Err(TemplateError::User);
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
pub enum TemplateError {
    /// There is no place for the room, or more than one.
    #[error("a destination begins with / and has {ROOM} in it once, as in /topic/rooms/{ROOM}")]
    Room,
    /// What it names would be refused as a pattern.
    #[error("a destination has {ROOM} in it once, and else none of * ? # {{ }}")]
    Pattern,
    /// It would swallow the queues of users.
    #[error("a destination that begins with /user/ is a user's queue, and not a room")]
    User,
}

#[cfg(test)]
mod tests {
    use shared::message::{RoomName, UserName};

    use super::{DestinationError, Destinations, TemplateError};

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

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
            let room = destinations
                .subscribe_room(destination, &user("kim"))
                .unwrap();
            assert_eq!(room.as_str(), "a:b");
            assert_eq!(destinations.send_room(destination).unwrap(), room);
        }
        let room = destinations.send_room("/app/rooms/a:b").unwrap();
        assert_eq!(destinations.topic(&room), "/topic/rooms/a:b");
    }

    #[test]
    fn a_subscribe_does_not_name_what_is_only_sent_to() {
        let error = destinations()
            .subscribe_room("/app/rooms/a", &user("kim"))
            .unwrap_err();
        assert!(matches!(error, DestinationError::Unknown { .. }));
        assert!(error.to_string().contains("/topic/rooms/{room}"), "{error}");
    }

    #[test]
    fn a_pattern_is_refused_and_the_answer_says_so() {
        let destinations = destinations();
        for pattern in [
            "/topic/rooms/*",
            "/topic/rooms/**",
            "/topic/rooms/a?",
            "/topic/rooms/#",
            "/topic/rooms/{room}",
            "/topic/**",
            "/user/queue/*",
            "/user/*/queue/x",
            "/user/**",
            "**",
        ] {
            let subscribed = destinations.subscribe_room(pattern, &user("kim"));
            assert_eq!(subscribed, Err(DestinationError::Pattern), "{pattern}");
            let sent = destinations.send_room(pattern);
            assert_eq!(sent, Err(DestinationError::Pattern), "{pattern}");
        }
        let text = DestinationError::Pattern.to_string();
        assert!(text.starts_with("patterns are refused"), "{text}");
        for impossible in ["/topic/rooms/a/b", "/topic/rooms/", "/topic/rooms/a%2Fb"] {
            let error = destinations.send_room(impossible);
            assert_eq!(error, Err(DestinationError::Room), "{impossible}");
        }
    }

    #[test]
    fn a_queue_is_subscribed_to_as_ones_own_and_sent_to_by_name() {
        let destinations = destinations();
        for (name, encoded) in [
            ("kim", "kim"),
            ("a/b", "a%2Fb"),
            ("a/b", "a%2fb"),
            ("50%", "50%25"),
            ("김 철수", "김 철수"),
            ("김", "%EA%B9%80"),
            ("queue", "queue"),
        ] {
            for queue in ["queue/x", "topic/x", "queue/a/b"] {
                let own = format!("/user/{queue}");
                let own = destinations.subscribe_room(&own, &user(name)).unwrap();
                assert_eq!(own, RoomName::queue(&user(name), queue).unwrap());
                let named = format!("/user/{encoded}/{queue}");
                assert_eq!(destinations.send_room(&named).unwrap(), own, "{named}");
            }
        }
    }

    #[test]
    fn what_is_no_queue_is_refused_with_what_would_be_one() {
        let destinations = destinations();
        let subscribed = |text| destinations.subscribe_room(text, &user("kim")).unwrap_err();
        for others in ["/user/kim/queue/x", "/user/", "/user/queue", "/user/x"] {
            assert_eq!(subscribed(others), DestinationError::NotOwn, "{others}");
        }
        let sent = |text| destinations.send_room(text).unwrap_err();
        for nobodys in ["/user/queue/x", "/user/topic/x", "/user/kim", "/user/kim/x"] {
            assert_eq!(sent(nobodys), DestinationError::NoUser, "{nobodys}");
        }
        for bare in ["/user/50%/queue/x", "/user/%2/queue/x", "/user/%FF/queue/x"] {
            assert_eq!(sent(bare), DestinationError::Encoding, "{bare}");
        }
        for impossible in ["/user/kim/queue/", "/user//queue/x", "/user/%00/queue/x"] {
            let error = sent(impossible);
            assert!(matches!(error, DestinationError::Queue(_)), "{impossible}");
        }
    }

    #[test]
    fn no_template_swallows_a_users_queue() {
        let queues: Result<super::Template, _> = "/user/{room}".parse();
        assert_eq!(queues, Err(TemplateError::User));
        let destinations = Destinations {
            subscribe: vec!["/{room}/queue/x".parse().unwrap()],
            send: vec!["/{room}/kim/queue/x".parse().unwrap()],
        };
        let kim = user("kim");
        let queue = RoomName::queue(&kim, "queue/x").unwrap();
        let own = destinations.subscribe_room("/user/queue/x", &kim);
        assert_eq!(own.unwrap(), queue);
        assert_eq!(destinations.send_room("/user/kim/queue/x").unwrap(), queue);
        let room = destinations.subscribe_room("/lobby/queue/x", &kim);
        assert_eq!(room.unwrap().as_str(), "lobby");
    }

    #[test]
    fn a_template_without_one_room_is_refused() {
        for text in [
            "/topic",
            "topic/{room}",
            "/topic/{room}/{room}",
            "{room}",
            "/topic/*/{room}",
            "",
        ] {
            assert!(text.parse::<super::Template>().is_err(), "{text}");
        }
    }
}
