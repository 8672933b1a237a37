//! The application's own back end, asked by HTTP.
//!
//! It gets `{"user","action","room"}` as JSON and answers 200 with `{"allow":true}` or
//! `{"allow":false}`; 403 and 404 are a no, too. Everything else is no answer.

use futures_util::future::{BoxFuture, FutureExt};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::{Value, json};
use shared::exit::Failure;

use super::Action;
use super::answers::{Question, Source};
use crate::config::AccessSettings;
use crate::fetch::{Bounds, Fetch, Url};

/// Octets of an answer at most.
const MAX_ANSWER: usize = 4096;

/// Asks the back end.
pub(super) struct Callback {
    fetch: Fetch,
    url: Url,
    headers: HeaderMap,
    bounds: Bounds,
}

impl Callback {
    pub(super) fn open(settings: &AccessSettings) -> Result<Self, Failure> {
        let Some(url) = settings.url.clone() else {
            return Err(Failure::Config(
                "--access callback needs --access-url".into(),
            ));
        };
        if url.is_exposed() {
            tracing::warn!(
                %url,
                "what the back end answers is not encrypted: whoever is in between decides who may \
                 do what"
            );
        }
        Ok(Self {
            fetch: Fetch::new(),
            url,
            headers: settings.url_headers.clone(),
            bounds: Bounds {
                deadline: settings.timeout,
                octets: MAX_ANSWER,
            },
        })
    }
}

impl Source for Callback {
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<bool, String>> {
        let body = json!({
            "user": question.user.as_str(),
            "action": match question.action {
                Action::Subscribe => "subscribe",
                Action::Send => "send",
                Action::History => "history",
            },
            "room": question.room.as_str(),
        });
        async move {
            let headers = self.headers.clone();
            let answer = self
                .fetch
                .post_json(&self.url, headers, &body, self.bounds)
                .await
                .map_err(|error| error.to_string())?;
            match answer.status {
                StatusCode::OK => serde_json::from_slice::<Value>(&answer.body)
                    .ok()
                    .and_then(|answer| answer.get("allow")?.as_bool())
                    .ok_or_else(|| "it is not {\"allow\":true} or {\"allow\":false}".into()),
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Ok(false),
                status => Err(format!("its status is {}", status.as_u16())),
            }
        }
        .boxed()
    }
}
