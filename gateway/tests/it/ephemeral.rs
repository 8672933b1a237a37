//! What is ephemeral, in one session under a virtual clock.

use gateway::session::output::Slot;
use shared::broker::PublishError;
use shared::stomp::Command;

use crate::virtual_client::Client;

#[test]
fn what_is_ephemeral_waits_for_the_past_and_is_neither_a_repeat_nor_the_last_one() {
    let mut client = Client::connected(&[]);
    client.say("SUBSCRIBE\nid:a\ndestination:/topic/rooms/r\nafter:00000000-0001-7000-8000-000000000000\n\n\0");
    // Its id is that of a message that is replayed, and of one that is behind.
    client.ephemeral(0, 5);
    client.ephemeral(0, 1);
    client.confirm(0);
    client.live(0, 6);
    client.ephemeral(0, 900);
    client.past(0, &[4, 5], true);
    assert_eq!(client.messages(), [4, 5, 5, 1, 6, 900]);
    client.ephemeral(0, 6);
    client.live(0, 6);
    client.ephemeral(0, 1);
    client.live(0, 7);
    assert_eq!(client.messages(), [6, 1, 7]);
}

#[test]
fn an_ephemeral_send_that_failed_ends_the_session_only_where_a_receipt_was_asked_for() {
    for destination in ["/app/rooms/r\nephemeral:true", "/user/lee/queue/x"] {
        let mut client = Client::connected(&[]);
        client.say(&format!("SEND\ndestination:{destination}\n\nx\0"));
        fail(&mut client);
        assert!(client.frames.is_empty() && client.closed.is_none());
        client.say(&format!(
            "SEND\ndestination:{destination}\nreceipt:q\n\nx\0"
        ));
        fail(&mut client);
        let error = client.take();
        assert_eq!(error.command, Command::Error);
        assert_eq!(error.header("receipt-id"), Some("q"));
    }
    let mut client = Client::connected(&[]);
    client.say("SEND\ndestination:/user/lee/queue/x\npersist:true\n\nx\0");
    fail(&mut client);
    assert_eq!(client.take().command, Command::Error);
}

#[test]
fn a_commits_receipt_is_not_earned_where_what_is_ephemeral_in_it_was_lost() {
    let mut client = Client::connected(&[]);
    client.say("BEGIN\ntransaction:t\n\n\0");
    client.say("SEND\ndestination:/user/lee/queue/x\ntransaction:t\n\nx\0");
    client.say("COMMIT\ntransaction:t\nreceipt:c\n\n\0");
    fail(&mut client);
    let error = client.take();
    assert_eq!(error.command, Command::Error);
    assert_eq!(error.header("receipt-id"), Some("c"));
}

fn fail(client: &mut Client) {
    let (token, ..) = client.publishes.remove(0);
    let answer = Err(PublishError::Unavailable);
    client.session.published(client.now, token, answer);
    client.collect();
}

#[test]
fn a_queue_is_joined_as_a_subscription_like_any_other() {
    let mut client = Client::connected(&[]);
    client.say("SUBSCRIBE\nid:a\ndestination:/user/queue/x\nreceipt:s\n\n\0");
    assert_eq!(client.joins, [Slot(0)]);
    client.confirm(0);
    assert_eq!(client.take().header("receipt-id"), Some("s"));
    client.say("UNSUBSCRIBE\nid:a\n\n\0");
    assert!(client.joins.is_empty());
}
