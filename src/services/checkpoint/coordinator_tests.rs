//! The decisions about checkpoints, as tables of what happens and what follows.

use super::{Action, CHANGES_MAX, Coordinator, Event, Purpose, Rules};
use crate::base::config::CheckpointSettings;
use std::time::Duration;

const S: fn(u64) -> Duration = Duration::from_secs;

fn rules() -> Rules {
    Rules {
        interval: Some(S(10)),
        timeout: S(60),
        min_pause: Duration::ZERO,
        max_concurrent: 1,
        tolerable_failures: 0,
    }
}

/// Two subtasks, at second 0; the state of a subtask is a letter.
fn coordinator(rules: Rules) -> Coordinator<char> {
    Coordinator::new(rules, vec![None, None], 1, S(0))
}

/// What follows from an event, in short.
fn after(c: &mut Coordinator<char>, at: u64, event: Event<char>) -> Vec<String> {
    let short = |action| match action {
        Action::Begin(b, Purpose::Periodic) => {
            format!("begin {}{}", b.id, if b.full { "" } else { " changes" })
        }
        Action::Begin(b, purpose) => format!("begin {} {purpose:?}", b.id),
        Action::Write { id, states, .. } => {
            let of = |(state, ended): (char, bool)| if ended { state.to_ascii_uppercase() } else { state };
            format!("write {id} {}", states.into_iter().map(of).collect::<String>())
        }
        Action::Complete { id, bytes, took, .. } => format!("complete {id}, {bytes} B, {} s", took.as_secs()),
        Action::Abort { id, why: Some(why), .. } => format!("abort {id}: {why}"),
        Action::Abort { id, why: None, .. } => format!("drop {id}"),
        Action::Fail(why) => format!("fail: {why}"),
    };
    c.handle(S(at), event).into_iter().map(short).collect()
}

fn ack(subtask: usize, id: u64, bytes: u64) -> Event<char> {
    Event::Acknowledged { subtask, id, bytes, state: ['a', 'b'][subtask] }
}

fn finished(subtask: usize) -> Event<char> {
    Event::Finished { subtask, state: ['x', 'y'][subtask] }
}

fn declined(id: u64) -> Event<char> {
    Event::Declined { id, why: "no space".into() }
}

/// Both subtasks acknowledge and it is written.
fn complete(c: &mut Coordinator<char>, at: u64, id: u64, bytes: u64) {
    assert!(after(c, at, ack(0, id, bytes)).is_empty());
    assert_eq!(after(c, at, ack(1, id, 0)), [format!("write {id} ab")]);
    let done = after(c, at, Event::Written(id));
    assert!(done[0].starts_with(&format!("complete {id}, {bytes} B")), "{done:?}");
}

/// C3: the interval counts from begin to begin; nothing is complete before all have acknowledged and it is written.
#[test]
fn a_checkpoint_begins_is_written_and_is_complete() {
    let mut c = coordinator(rules());
    assert_eq!(c.next_deadline(), Some(S(10)));
    assert!(after(&mut c, 9, Event::Tick).is_empty());
    assert_eq!(after(&mut c, 10, Event::Tick), ["begin 1"]);
    assert_eq!(c.next_deadline(), Some(S(70)), "its timeout: another one has no room");
    assert!(after(&mut c, 11, ack(1, 1, 5)).is_empty());
    assert!(after(&mut c, 11, ack(1, 1, 5)).is_empty(), "said twice");
    assert!(after(&mut c, 11, ack(0, 9, 5)).is_empty(), "of another one");
    assert_eq!(after(&mut c, 12, ack(0, 1, 7)), ["write 1 ab"]);
    assert!(after(&mut c, 13, Event::Tick).is_empty(), "written once");
    assert_eq!(after(&mut c, 14, Event::Written(1)), ["complete 1, 12 B, 4 s"]);
    assert_eq!(c.next_deadline(), Some(S(20)));
    assert_eq!(after(&mut c, 20, Event::Tick), ["begin 2 changes"]);
}

/// C3: one that took longer than the interval is followed at once, or after the pause.
#[test]
fn a_pause_is_kept_after_the_end_of_a_checkpoint() {
    for (pause, at) in [(0, 35), (7, 42)] {
        let mut c = coordinator(Rules { min_pause: S(pause), ..rules() });
        after(&mut c, 10, Event::Tick);
        after(&mut c, 35, ack(0, 1, 0));
        after(&mut c, 35, ack(1, 1, 0));
        let done = after(&mut c, 35, Event::Written(1));
        assert_eq!(done.len(), if pause == 0 { 2 } else { 1 }, "{done:?}");
        if pause > 0 {
            assert_eq!(c.next_deadline(), Some(S(at)));
            assert!(after(&mut c, at - 1, Event::Tick).is_empty());
            assert_eq!(after(&mut c, at, Event::Tick), ["begin 2 changes"]);
        }
    }
}

/// C3: a pause means that only one is under way.
#[test]
fn a_pause_leaves_room_for_one() {
    for (min_pause, at_20) in [(Duration::ZERO, vec!["begin 2"]), (S(1), vec![])] {
        let settings = CheckpointSettings {
            interval: Some(S(10)),
            max_concurrent: 2,
            min_pause,
            ..CheckpointSettings::default()
        };
        let mut c = coordinator(Rules::from(&settings));
        assert_eq!(after(&mut c, 10, Event::Tick), ["begin 1"]);
        assert_eq!(after(&mut c, 20, Event::Tick), at_20, "{min_pause:?}");
    }
}

/// C3: a timeout ends that checkpoint only, and counts as a failure.
#[test]
fn a_checkpoint_that_takes_too_long_is_given_up() {
    let mut c = coordinator(Rules { tolerable_failures: 1, ..rules() });
    after(&mut c, 10, Event::Tick);
    after(&mut c, 20, ack(0, 1, 0));
    assert_eq!(after(&mut c, 70, Event::Tick), ["abort 1: it was not complete after 60s", "begin 2"]);
    assert!(after(&mut c, 71, ack(1, 1, 0)).is_empty(), "too late");
    complete(&mut c, 75, 2, 0);
    assert_eq!(after(&mut c, 80, Event::Tick), ["begin 3 changes"]);
}

/// C3: so many in a row are tolerated; one that is completed makes the count begin again.
#[test]
fn more_failures_in_a_row_than_tolerated_fail_the_job() {
    let mut c = coordinator(Rules { tolerable_failures: 2, ..rules() });
    let mut at = 0;
    let mut fail = |c: &mut Coordinator<char>, id| {
        at += 10;
        assert_eq!(after(c, at, Event::Tick), [format!("begin {id}")]);
        after(c, at, declined(id))
    };
    for id in [1, 2] {
        assert_eq!(fail(&mut c, id), [format!("abort {id}: no space")]);
    }
    let third = fail(&mut c, 3);
    assert_eq!(third[1], "fail: checkpoint 3 failed (3 in a row, 2 tolerated): no space");
    let mut c = coordinator(Rules { tolerable_failures: 1, ..rules() });
    for round in 0..3 {
        let (failed, good) = (2 * round + 1, 2 * round + 2);
        after(&mut c, failed * 10, Event::Tick);
        assert_eq!(after(&mut c, failed * 10, declined(failed)), [format!("abort {failed}: no space")]);
        assert_eq!(
            after(&mut c, good * 10, Event::Tick),
            [format!("begin {good}")],
            "everything, after a failure"
        );
        complete(&mut c, good * 10, good, 0);
    }
    let strict = coordinator(rules()).handle(S(10), Event::Tick);
    assert_eq!(strict.len(), 1);
}

/// C3: several at once; a newer one that is completed ends the older ones, which is no failure.
#[test]
fn several_may_be_under_way() {
    let mut c = coordinator(Rules { max_concurrent: 2, ..rules() });
    assert_eq!(after(&mut c, 10, Event::Tick), ["begin 1"]);
    assert_eq!(after(&mut c, 20, Event::Tick), ["begin 2"], "everything, while 1 is not complete");
    assert!(after(&mut c, 30, Event::Tick).is_empty());
    assert!(c.is_pending(1) && c.is_pending(2) && !c.is_pending(3));
    for subtask in [0, 1] {
        after(&mut c, 30, ack(subtask, 2, 1));
    }
    assert_eq!(after(&mut c, 31, Event::Written(2)), ["complete 2, 2 B, 11 s", "drop 1", "begin 3 changes"]);
}

/// C6: what a subtask kept at its end is part of all later checkpoints; of one that is under way, too.
#[test]
fn a_subtask_that_finishes_needs_not_acknowledge() {
    let mut c = coordinator(rules());
    after(&mut c, 10, Event::Tick);
    after(&mut c, 11, ack(0, 1, 1));
    assert_eq!(after(&mut c, 12, finished(1)), ["write 1 aY"]);
    after(&mut c, 12, Event::Written(1));
    after(&mut c, 20, Event::Tick);
    assert_eq!(after(&mut c, 21, ack(0, 2, 1)), ["write 2 aY"]);
    after(&mut c, 21, Event::Written(2));
    // It had acknowledged before it finished: that is its part of 3.
    after(&mut c, 30, Event::Tick);
    after(&mut c, 31, ack(0, 3, 1));
    assert!(c.handle(S(32), finished(0)).len() >= 2);
}

/// C6: when all have finished a last checkpoint is written, and nothing after it; one under way is dropped for it.
#[test]
fn the_end_of_all_is_the_last_checkpoint() {
    for under_way in [false, true] {
        let mut c = coordinator(rules());
        let id = if under_way { 2 } else { 1 };
        if under_way {
            after(&mut c, 10, Event::Tick);
        }
        let at = if under_way { 12 } else { 7 };
        assert!(after(&mut c, at, finished(0)).is_empty());
        let end = after(&mut c, at, finished(1));
        assert_eq!(end.last().unwrap(), &format!("write {id} XY"));
        assert_eq!(end.len(), if under_way { 2 } else { 1 }, "{end:?}");
        assert_eq!(after(&mut c, at + 1, Event::Written(id)), [format!("complete {id}, 0 B, 1 s")]);
        assert!(
            after(&mut c, 99, Event::Tick).is_empty()
                && after(&mut c, 99, Event::Asked(Purpose::Asked)).is_empty()
        );
    }
    // All had finished before the attempt began.
    let mut c = Coordinator::new(rules(), vec![Some('x'), Some('y')], 8, S(0));
    assert_eq!(after(&mut c, 0, Event::Tick), ["write 8 XY"]);
    // The last one must not fail, whatever is tolerated.
    let mut c = Coordinator::new(Rules { tolerable_failures: 9, ..rules() }, vec![Some('x')], 8, S(0));
    after(&mut c, 0, Event::Tick);
    assert_eq!(after(&mut c, 1, declined(8))[1], "fail: checkpoint 8 failed: no space");
}

/// A chain of changes ends when it is long, or larger than what it began with.
#[test]
fn everything_is_written_again_behind_enough_changes() {
    for (bytes, changes) in [(1, CHANGES_MAX), (40_000, 2), (200_000, 2)] {
        let mut c = coordinator(rules());
        let mut full = Vec::new();
        for id in 1..=12 {
            let begin = after(&mut c, id * 10, Event::Tick);
            if begin == [format!("begin {id}")] {
                full.push(id);
            }
            complete(&mut c, id * 10, id, bytes);
        }
        assert_eq!(full[..2], [1, 2 + changes as u64], "changes of {bytes} bytes");
    }
}

/// C8: a wish does not wait for the interval, and behind one to stop there is nothing more, unless it fails.
#[test]
fn checkpoints_that_somebody_asks_for() {
    let mut c = coordinator(Rules { interval: None, tolerable_failures: 5, ..rules() });
    assert_eq!(c.next_deadline(), None);
    assert!(after(&mut c, 1000, Event::Tick).is_empty());
    assert_eq!(after(&mut c, 1000, Event::Asked(Purpose::Asked)), ["begin 1 Asked"]);
    assert!(after(&mut c, 1001, Event::Asked(Purpose::Stop)).is_empty(), "one at a time");
    assert!(after(&mut c, 1001, Event::Asked(Purpose::Stop)).is_empty(), "asked twice");
    after(&mut c, 1002, ack(0, 1, 0));
    after(&mut c, 1002, ack(1, 1, 0));
    assert_eq!(after(&mut c, 1002, Event::Written(1)), ["complete 1, 0 B, 2 s", "begin 2 Stop"]);
    assert!(after(&mut c, 1003, Event::Asked(Purpose::Asked)).is_empty());
    assert_eq!(after(&mut c, 1003, declined(2)), ["abort 2: no space"]);
    c.resume();
    assert_eq!(after(&mut c, 1004, Event::Asked(Purpose::Asked)), ["begin 3 Asked"]);
}
