//! The memberships in the store.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use shared::store::Store;

use super::Action;
use super::answers::{Question, Source};

/// Asks the store.
pub(super) struct Members(pub(super) Arc<dyn Store>);

impl Source for Members {
    fn ask<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<bool, String>> {
        async move {
            let rights = self
                .0
                .rights(&question.room, &question.user)
                .await
                .map_err(|error| error.to_string())?;
            Ok(match question.action {
                Action::Subscribe | Action::History => rights.read,
                Action::Send => rights.write,
            })
        }
        .boxed()
    }
}
