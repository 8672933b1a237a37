use std::time::SystemTime;

use proptest::prelude::*;
use shared::message::{RoomName, Stamp, UserName};
use shared::metrics::Metrics;
use shared::stomp::Version;

use super::*;
use crate::members::Member;
use crate::outbox::outbox;
use crate::session::output::{Address, Slot};

fn id(ms: u64) -> MessageId {
    MessageId::new(Stamp { ms, seq: 0 }, 0)
}

/// The message of this number, which comes after the one before.
fn message(number: u64) -> Arc<Message> {
    Arc::new(Message {
        id: id(number),
        room: RoomName::parse("r").unwrap(),
        sender: UserName::parse("kim").unwrap(),
        content_type: None,
        headers: Vec::new(),
        body: "hi".into(),
        idempotency_key: None,
        prev: Some(id(number - 1)),
        ephemeral: false,
    })
}

fn address() -> Address {
    Address {
        version: Version::V1_2,
        subscription: None,
        destination: "/topic/rooms/r".into(),
        acknowledged: false,
        text_only: false,
    }
}

/// A room with one member, whose newest message is the first, and what the member is shown.
fn room() -> (Room, impl FnMut() -> Vec<MessageId>) {
    let mut room = Room::new(true, true, WINDOW, 1 << 20);
    let (outbox, mut deliveries) = outbox(1 << 20, Metrics::new().gateway);
    let slot = Slot(0);
    room.members.join(&address(), Member { outbox, slot });
    assert!(room.confirm(Some(id(1))));
    let shown = move || {
        std::iter::from_fn(|| deliveries.try_next())
            .map(|delivery| delivery.encoded.id)
            .collect()
    };
    (room, shown)
}

/// The message of this number, which comes after the one of that number.
fn follows(number: u64, prev: Option<u64>) -> Arc<Message> {
    Arc::new(Message {
        prev: prev.map(id),
        ..(*message(number)).clone()
    })
}

/// A reading that finds these after where it has to begin.
fn read(room: &mut Room, from: u64, found: &[u64]) -> Result<Repaired, Unrepairable> {
    assert_eq!(room.begin_reading(), Some(id(from)));
    for number in found {
        room.replay(&message(*number))?;
    }
    Ok(room.end_reading())
}

/// What names none before it is 100 numbers later when all is well.
const WINDOW: Duration = Duration::from_millis(100);

const MISSED: Repaired = Repaired::Wholly { has_missed: true };
const NOTHING: Repaired = Repaired::Wholly { has_missed: false };

#[test]
fn what_is_missed_during_a_repair_is_read_before_what_waits_is_released() {
    let (mut room, mut shown) = room();
    assert!(room.begin_repair());
    // The link was lost again, and is back before it says so.
    assert!(room.arrive(&message(3)));
    assert_eq!(read(&mut room, 1, &[2, 3]), Ok(MISSED));
    assert!(room.arrive(&message(4)));
    assert!(!room.arrive(&message(6)), "5 is missing");
    assert_eq!(room.begin_reading(), Some(id(1)));
    assert!(room.arrive(&message(8)));
    for number in 2..=6 {
        assert_eq!(room.replay(&message(number)), Ok(()));
    }
    assert_eq!(room.end_reading(), Repaired::Partly, "7 is missing");
    assert_eq!(read(&mut room, 6, &[7, 8]), Ok(MISSED));
    assert_eq!(shown(), [2, 3, 4, 5, 6, 7, 8].map(id));
}

#[test]
fn what_is_ephemeral_passes_a_repair_and_moves_nothing() {
    let (mut room, mut shown) = room();
    // Ids of other clocks, behind and ahead of the room's.
    let [behind, ahead] = [1, 100].map(|number| {
        Arc::new(Message {
            prev: None,
            ephemeral: true,
            ..(*message(number)).clone()
        })
    });
    assert!(room.arrive(&behind));
    assert!(!room.arrive(&message(3)), "2 is missing");
    assert!(room.arrive(&ahead));
    assert_eq!(room.newest(), Some(id(1)));
    assert_eq!(read(&mut room, 1, &[2, 3]), Ok(MISSED));
    assert!(room.arrive(&behind));
    assert!(room.arrive(&message(4)));
    assert_eq!(shown(), [1, 100, 2, 3, 1, 4].map(id));
}

#[test]
fn what_went_with_a_server_after_it_was_shown_is_no_gap() {
    let (mut room, mut shown) = room();
    assert!(room.arrive(&message(2)));
    assert!(room.arrive(&message(3)));
    // The server that takes its place never had 3.
    assert!(room.arrive(&follows(5, Some(2))));
    assert!(room.begin_repair());
    assert_eq!(read(&mut room, 1, &[2, 5]), Ok(NOTHING));
    assert_eq!(shown(), [2, 3, 5].map(id));
}

#[test]
fn what_another_server_has_put_before_what_was_shown_cannot_be_repaired() {
    // It comes live; what follows it does; it is found when the link is back.
    for live in [Some(follows(4, Some(2))), Some(follows(9, Some(4))), None] {
        let (mut room, _shown) = room();
        assert!(room.arrive(&message(2)));
        assert!(room.arrive(&follows(5, Some(2))));
        let begun = match live {
            Some(message) => !room.arrive(&message),
            None => room.begin_repair(),
        };
        assert!(begun);
        assert_eq!(read(&mut room, 1, &[2, 4, 5]), Err(Unrepairable));
    }
}

#[test]
fn what_a_repair_begins_at_must_be_there_unless_it_is_old() {
    let (room, _shown) = room();
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let now = since_1970.as_millis() as u64;
    assert_eq!(room.begins_nowhere(id(now)), Err(Unrepairable));
    assert_eq!(room.begins_nowhere(id(now - 700_000)), Ok(()));
}

#[test]
fn a_repeat_is_no_gap_however_late_it_comes() {
    let (mut room, mut shown) = room();
    for number in 2..2000 {
        assert!(room.arrive(&message(number)));
    }
    assert!(room.arrive(&message(2)) && room.arrive(&message(1998)));
    assert_eq!(shown().len(), 1998);
}

#[test]
fn a_message_that_names_none_before_it_is_a_gap_where_one_was_shown_lately() {
    let (mut room, mut shown) = room();
    assert!(!room.arrive(&follows(3, None)), "the window was lost");
    assert_eq!(read(&mut room, 1, &[2, 3]), Ok(MISSED));
    assert!(room.arrive(&follows(103, None)), "it has expired");
    assert!(!room.arrive(&follows(202, None)), "it was lost");
    assert_eq!(shown(), [2, 3, 103].map(id));
    let mut empty = Room::new(true, true, WINDOW, 1 << 20);
    assert!(empty.confirm(Some(MessageId::MIN)));
    assert!(empty.arrive(&follows(1, None)), "it is the first");
}

#[test]
fn what_came_live_and_is_not_found_is_looked_for_again() {
    let (mut room, mut shown) = room();
    assert!(room.begin_repair());
    assert!(room.arrive(&message(2)));
    assert_eq!(read(&mut room, 1, &[]), Ok(Repaired::Behind));
    assert_eq!(shown(), []);
    assert_eq!(read(&mut room, 1, &[2]), Ok(NOTHING));
    assert_eq!(shown(), [id(2)]);
}

#[test]
fn what_does_not_fit_while_a_repair_reads_is_read_after_it() {
    let mut room = Room::new(true, true, WINDOW, 0);
    assert!(room.confirm(Some(id(1))) && room.begin_repair());
    assert_eq!(room.begin_reading(), Some(id(1)));
    assert!(room.arrive(&message(2)));
    assert_eq!(room.end_reading(), Repaired::Partly);
    assert_eq!(read(&mut room, 1, &[2]), Ok(MISSED));
    assert_eq!(room.newest(), Some(id(2)));
}

#[test]
fn a_second_interruption_begins_the_repair_anew() {
    let (mut room, _shown) = room();
    assert!(room.begin_repair());
    assert_eq!(room.begin_reading(), Some(id(1)));
    assert_eq!(room.replay(&message(2)), Ok(()));
    assert!(!room.begin_repair());
    assert_eq!(room.end_reading(), Repaired::Partly);
    // Another server may have 2 no more, and something else in its place.
    assert_eq!(room.begin_reading(), Some(id(1)));
}

#[test]
fn a_repair_may_begin_at_the_newest_until_it_has_read_something() {
    let (mut room, _shown) = room();
    assert!(room.begin_repair());
    assert_eq!(room.shortcut(), None, "the newest is the oldest");
    assert_eq!(read(&mut room, 1, &[2, 3]), Ok(MISSED));
    assert!(room.begin_repair());
    assert_eq!(room.begin_reading(), Some(id(1)));
    assert_eq!(room.shortcut(), Some(id(3)));
    assert_eq!(room.replay(&message(4)), Ok(()));
    assert_eq!(room.shortcut(), None);
    // Another server may be asked from now on.
    assert!(!room.begin_repair());
    assert_eq!(room.begin_reading(), Some(id(1)));
    assert_eq!(room.shortcut(), Some(id(4)));
}

/// What happens next to a room whose own clients send as well as others.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// A client of this gateway's, or of another's, has a message accepted.
    Accept { own: bool },
    /// The oldest copy that is on its way comes, even if it may be left out.
    Copy,
    /// It is lost, and the link will say so.
    Lose,
    /// One of the answers that are on their way comes.
    Answer(usize),
    /// The link says that something may have been lost.
    Gap,
    /// A repair that is under way reads all there is.
    Read,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let next = prop_oneof![
        4 => any::<bool>().prop_map(|own| Move::Accept { own }),
        4 => Just(Move::Copy),
        1 => Just(Move::Lose),
        4 => any::<usize>().prop_map(Move::Answer),
        1 => Just(Move::Gap),
        1 => Just(Move::Read),
    ];
    prop::collection::vec(next, 0..80)
}

proptest! {
    #[test]
    fn however_answers_and_copies_come_everything_is_shown_once_and_in_order(
        moves in moves(),
        are_left_out in any::<bool>(),
    ) {
        let (mut room, mut shown) = room();
        let (mut accepted, mut copied) = (1, 1);
        let (mut answers, mut noted) = (Vec::new(), Vec::new());
        let (mut is_lossy, mut repairs) = (false, false);
        let to_the_end = [Move::Gap, Move::Read].into_iter().chain([Move::Copy; 80]);
        for step in moves.into_iter().chain(to_the_end).chain([Move::Read]) {
            match step {
                Move::Accept { own } => {
                    accepted += 1;
                    if own {
                        answers.push(accepted);
                    }
                }
                // What comes after a loss comes after it is told.
                Move::Copy if copied < accepted && !is_lossy => {
                    copied += 1;
                    if !(are_left_out && noted.contains(&copied)) {
                        repairs |= !room.arrive(&message(copied));
                    }
                }
                Move::Lose if copied < accepted => {
                    copied += 1;
                    is_lossy = true;
                }
                Move::Answer(which) if !answers.is_empty() => {
                    let number = answers.swap_remove(which % answers.len());
                    if room.answered(&message(number)) {
                        noted.push(number);
                    }
                }
                Move::Gap => {
                    is_lossy = false;
                    repairs |= room.begin_repair();
                }
                Move::Read if repairs => {
                    while let Some(from) = room.begin_reading() {
                        for number in from.stamp().ms + 1..=accepted {
                            prop_assert_eq!(room.replay(&message(number)), Ok(()));
                        }
                        match room.end_reading() {
                            Repaired::Wholly { .. } => break,
                            outcome => prop_assert_eq!(outcome, Repaired::Partly),
                        }
                    }
                    repairs = false;
                }
                _ => {}
            }
        }
        prop_assert_eq!(shown(), (2..=accepted).map(id).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_accepted_is_shown_by_its_answer_only_where_nothing_can_lie_before_it() {
    let (mut room, mut shown) = room();
    assert!(!room.answered(&message(3)), "2 may be on its way");
    assert!(
        !room.answered(&follows(2, None)),
        "nobody knows what was before it"
    );
    assert!(room.answered(&message(2)));
    assert!(!room.answered(&message(2)), "it was shown");
    assert!(room.arrive(&message(2)), "its copy is no gap");
    assert!(room.begin_repair());
    assert!(!room.answered(&message(3)), "something may be missing");
    assert_eq!(read(&mut room, 1, &[2, 3]), Ok(MISSED));
    assert!(room.answered(&message(4)));
    assert_eq!(shown(), [2, 3, 4].map(id));
}

#[test]
fn before_a_room_is_confirmed_nothing_is_shown_by_an_answer() {
    let mut room = Room::new(true, true, WINDOW, 1 << 20);
    assert!(room.arrive(&message(2)));
    assert!(!room.answered(&message(3)));
    assert!(room.confirm(Some(id(2))));
    assert!(room.answered(&message(3)));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_after_an_ephemeral_message_does_not_overtake_it_unless_that_is_lost() {
    let (mut room, mut shown) = room();
    let whisper = Arc::new(Message {
        prev: None,
        ephemeral: true,
        ..(*message(50)).clone()
    });
    // Its answer may come before it, and after it.
    for (number, heard_first) in [(2, false), (3, true)] {
        room.whispers.publish();
        assert!(
            !room.answered(&message(number)),
            "the whisper is on its way"
        );
        if heard_first {
            assert!(room.arrive(&whisper));
            assert!(!room.answered(&message(number)), "there may be another one");
            room.whispers.answered(Some(whisper.id));
        } else {
            room.whispers.answered(Some(whisper.id));
            assert!(
                !room.answered(&message(number)),
                "the whisper is on its way"
            );
            assert!(room.arrive(&whisper));
        }
        assert!(room.answered(&message(number)));
    }
    room.whispers.publish();
    room.whispers.answered(None);
    assert!(room.answered(&message(4)), "it was not accepted");
    room.whispers.publish();
    room.whispers.answered(Some(whisper.id));
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(room.answered(&message(5)), "it is lost");
    assert_eq!(shown(), [50, 2, 50, 3, 4, 5].map(id));
}
