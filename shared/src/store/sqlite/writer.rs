//! The thread that writes.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::failure;
use crate::store::StoreError;

/// The most tasks that wait, and the most that share a commit. Their messages belong to callers
/// who wait too, so this bounds what callers that gave up can leave behind.
const QUEUE: usize = 64;

/// The way to the thread, which ends when the last of these is dropped and its queue is empty.
pub(super) struct Writer {
    tasks: mpsc::Sender<Box<dyn Task>>,
}

/// A way to the thread that does not keep it going.
pub(super) struct WeakWriter {
    tasks: mpsc::WeakSender<Box<dyn Task>>,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(connection: Connection, path: &Path) -> Result<Self, StoreError> {
        let (tasks, queue) = mpsc::channel(QUEUE);
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || write(connection, &path, queue))
            .map_err(|error| StoreError::Unavailable(format!("no thread for writing: {error}")))?;
        Ok(Self { tasks })
    }

    /// Does `work` in a transaction, and answers once that is on the disk.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let ended = || StoreError::Unavailable("the thread that writes has ended".into());
        let (reply, answer) = oneshot::channel();
        let task = Box::new(Work {
            work,
            outcome: None,
            reply,
        });
        self.tasks.send(task).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// A way to the thread that does not keep it going.
    pub(super) fn downgrade(&self) -> WeakWriter {
        WeakWriter {
            tasks: self.tasks.downgrade(),
        }
    }
}

impl WeakWriter {
    /// A way that does, while the thread is still there.
    pub(super) fn upgrade(&self) -> Option<Writer> {
        self.tasks.upgrade().map(|tasks| Writer { tasks })
    }
}

/// Tasks that wait share the next commit, so that a slow disk makes for larger commits and not for
/// a longer queue: all of them are durable, or none.
fn write(mut connection: Connection, path: &Path, mut queue: mpsc::Receiver<Box<dyn Task>>) {
    while let Some(first) = queue.blocking_recv() {
        let mut tasks = vec![first];
        while tasks.len() < QUEUE
            && let Ok(task) = queue.try_recv()
        {
            tasks.push(task);
        }
        let committed = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                tasks
                    .iter_mut()
                    .try_for_each(|task| task.perform(&transaction))?;
                transaction.commit()
            })
            .map_err(|error| failure(path, error));
        for task in tasks {
            task.answer(committed.clone());
        }
    }
}

trait Task: Send {
    fn perform(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()>;

    /// Says what came of it, now that the transaction is over.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Work<T, F> {
    work: F,
    outcome: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Task for Work<T, F>
where
    T: Send,
    F: FnMut(&Transaction<'_>) -> rusqlite::Result<T> + Send,
{
    fn perform(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        self.outcome = Some((self.work)(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let outcome = self.outcome;
        let answer =
            committed.map(|()| outcome.expect("a transaction commits after all were performed"));
        // Whoever asked may have given up; what was done stays done.
        drop(self.reply.send(answer));
    }
}
