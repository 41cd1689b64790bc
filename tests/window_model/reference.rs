//! Reference: what windows give, written from the rules (X1 to X17) for one record after the other, with plain vectors and
//! none of the engine's definitions. Slow on purpose: every window looks at every watermark.

use crate::definition::{Definition, Evicts, Fires, Kind, Rec, dynamic_gap};
use std::collections::{BTreeMap, BTreeSet};

/// A firing, with the values of the window in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firing {
    pub key: u8,
    pub start: i64,
    pub end: i64,
    /// The timestamp of the result.
    pub stamp: i64,
    pub values: Vec<i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub firings: Vec<Firing>,
    /// Records at the late output.
    pub late: Vec<Rec>,
    /// Late records that nobody takes, and those that no window takes.
    pub dropped: u64,
}

/// A window that has had a record.
#[derive(Clone, Debug, Default)]
struct Open {
    start: i64,
    end: i64,
    /// The timestamp of the last record.
    last_at: i64,
    content: Vec<(i64, i64)>,
    count: u64,
    next: Option<i64>,
    /// The value of the last firing, at first that of the first record.
    fired_at: Option<i64>,
    timers: BTreeSet<i64>,
}

/// STREAMING: records and watermarks in their order, then the end of the input.
pub fn streaming(definition: &Definition, arrivals: &[Rec]) -> Outcome {
    let mut model = Model::new(definition, false);
    for record in arrivals {
        model.record(record);
        if let Some(mark) = record.mark {
            model.advance(mark);
        }
    }
    model.advance(i64::MAX);
    model.outcome
}

/// BATCH: the records of each key by time; the watermark stands still until the end of the key. What time would fire
/// repeatedly fires once (M13).
pub fn batch(definition: &Definition, arrivals: &[Rec]) -> Outcome {
    let mut sorted = arrivals.to_vec();
    sorted.sort_by_key(|record| (record.key, record.at));
    let mut model = Model::new(definition, true);
    sorted.iter().for_each(|record| model.record(record));
    model.advance(i64::MAX);
    model.outcome
}

struct Model<'a> {
    definition: &'a Definition,
    final_only: bool,
    watermark: i64,
    open: BTreeMap<u8, Vec<Open>>,
    outcome: Outcome,
}

impl<'a> Model<'a> {
    fn new(definition: &'a Definition, final_only: bool) -> Self {
        let (open, outcome) = Default::default();
        Model { definition, final_only, watermark: i64::MIN, open, outcome }
    }

    /// X1, X2, X3: start and end of each window.
    fn windows(&self, record: &Rec) -> Vec<(i64, i64)> {
        let aligned = |size: i64, slide: i64, offset: i64| {
            let last = record.at - (record.at - offset).rem_euclid(slide);
            let starts = (0..).map(move |i| last - i * slide);
            starts
                .take_while(move |start| *start > record.at - size)
                .map(|start| (start, start + size))
                .collect()
        };
        match self.definition.kind {
            Kind::Tumbling { size, offset } => aligned(size, size, offset),
            Kind::Sliding { size, slide, offset } => aligned(size, slide, offset),
            Kind::Sessions { gap } => vec![(record.at, record.at + gap)],
            Kind::DynamicSessions { least } => {
                vec![(record.at, record.at + dynamic_gap(least, record.value))]
            }
            Kind::Global => vec![(i64::MIN, i64::MAX)],
        }
    }

    /// The last timestamp of a window; the global one never ends.
    fn last(&self, window: &Open) -> i64 {
        if self.definition.kind == Kind::Global { i64::MAX } else { window.end - 1 }
    }

    fn merges(&self) -> bool {
        matches!(self.definition.kind, Kind::Sessions { .. } | Kind::DynamicSessions { .. })
    }

    /// X15: `None` for the global window, which is never late and never dropped.
    fn cleanup(&self, end: i64) -> Option<i64> {
        (self.definition.kind != Kind::Global).then(|| (end - 1).saturating_add(self.definition.lateness))
    }

    fn record(&mut self, record: &Rec) {
        let mut late = true;
        for (start, end) in self.windows(record) {
            let mut window = self.take(record.key, start, end);
            if self.cleanup(window.end).is_some_and(|cleanup| cleanup <= self.watermark) {
                continue;
            }
            late = false;
            window.content.push((record.value, record.at));
            window.last_at = record.at;
            window.timers.extend(self.cleanup(window.end));
            if self.on_element(record, &mut window) {
                self.fire(record.key, &mut window);
            }
            self.open.entry(record.key).or_default().push(window);
        }
        // X16: in no window that is still open.
        let behind = record.at.saturating_add(self.definition.lateness) <= self.watermark;
        match (late, behind && self.definition.late_output) {
            (true, true) => self.outcome.late.push(record.clone()),
            (true, false) => self.outcome.dropped += 1,
            _ => {}
        }
    }

    /// The window as it is so far, taken out of the open ones; of sessions, all that the new one meets, as one.
    fn take(&mut self, key: u8, start: i64, end: i64) -> Open {
        let merges = self.merges();
        let open = self.open.entry(key).or_default();
        let meets = |window: &Open| match merges {
            true => window.start <= end && start <= window.end,
            false => window.start == start,
        };
        let (mut met, rest): (Vec<Open>, Vec<Open>) = open.drain(..).partition(meets);
        *open = rest;
        let fresh = Open { start, end, ..Open::default() };
        match &met[..] {
            [] => return fresh,
            [one] if one.start <= start && end <= one.end => return met.remove(0),
            _ => {}
        }
        let mut whole = fresh;
        met.sort_by_key(|window| window.start);
        for window in met {
            whole.start = whole.start.min(window.start);
            whole.end = whole.end.max(window.end);
            whole.content.extend(window.content);
            whole.count += window.count;
            whole.next = whole.next.into_iter().chain(window.next).min();
        }
        // The timers of the parts are gone; the whole registers its own.
        let last = self.last(&whole);
        if last > self.watermark {
            match self.definition.fires {
                Fires::Count(_) | Fires::Delta(_) => {}
                Fires::AtEnd => whole.timers.extend([last]),
                Fires::Continuous(_) => {
                    whole.timers.extend(whole.next.into_iter().filter(|next| *next < last).chain([last]));
                }
            }
        }
        whole
    }

    /// X12, X13: whether the trigger fires.
    fn on_element(&self, record: &Rec, window: &mut Open) -> bool {
        let last = self.last(window);
        let over = last <= self.watermark;
        match self.definition.fires {
            Fires::Count(n) => {
                window.count += 1;
                let full = window.count >= n;
                if full {
                    window.count = 0;
                }
                return full;
            }
            Fires::Delta(threshold) => {
                let last = *window.fired_at.get_or_insert(record.value);
                let moved = (record.value - last).abs() > threshold;
                if moved {
                    window.fired_at = Some(record.value);
                }
                return moved;
            }
            _ if over => {}
            Fires::AtEnd => window.timers.extend([last]),
            Fires::Continuous(every) => {
                let next = *window.next.get_or_insert(following(record.at, every));
                window.timers.extend([next, last].into_iter().filter(|time| *time <= last));
            }
        }
        over
    }

    fn on_time(&self, time: i64, window: &mut Open, draining: bool) -> bool {
        let last = self.last(window);
        match self.definition.fires {
            Fires::Count(_) | Fires::Delta(_) => false,
            _ if time == last => true,
            Fires::Continuous(every) if window.next == Some(time) && time < last => {
                let next = following(time, every);
                window.next = Some(next);
                // F2: what a callback registers while the end is drained does not fire.
                window.timers.extend((next < last && !draining).then_some(next));
                true
            }
            _ => false,
        }
    }

    fn fire(&mut self, key: u8, window: &mut Open) {
        if let Some((evicts, false)) = self.definition.evicts {
            evict(evicts, &mut window.content);
        }
        if !window.content.is_empty() {
            let values = window.content.iter().map(|(value, _)| *value).collect();
            let Open { start, end, last_at, .. } = *window;
            // X8; count windows have no end to be stamped with.
            let stamp = if self.definition.kind == Kind::Global { last_at } else { end - 1 };
            self.outcome.firings.push(Firing { key, start, end, stamp, values });
        }
        if let Some((evicts, true)) = self.definition.evicts {
            evict(evicts, &mut window.content);
        }
        if self.definition.purging {
            window.content.clear();
        }
    }

    /// W4: never back. Timers in time order; the last one of a window drops it.
    fn advance(&mut self, watermark: i64) {
        if watermark <= self.watermark {
            return;
        }
        self.watermark = watermark;
        for (key, windows) in std::mem::take(&mut self.open) {
            for mut window in windows {
                let cleanup = self.cleanup(window.end);
                let (mut dropped, mut fired) = (false, false);
                while let Some(&time) = window.timers.first().filter(|time| **time <= watermark) {
                    window.timers.remove(&time);
                    let fires = self.on_time(time, &mut window, watermark == i64::MAX);
                    if fires && !self.final_only {
                        self.fire(key, &mut window);
                    }
                    fired |= fires;
                    dropped = Some(time) == cleanup;
                    if dropped {
                        break;
                    }
                }
                if fired && self.final_only {
                    self.fire(key, &mut window);
                }
                if !dropped {
                    self.open.entry(key).or_default().push(window);
                }
            }
        }
    }
}

/// The next whole multiple after a time.
fn following(time: i64, every: i64) -> i64 {
    (time.div_euclid(every) + 1) * every
}

/// X14.
fn evict(evicts: Evicts, content: &mut Vec<(i64, i64)>) {
    let (newest, last) = (content.iter().map(|(_, at)| *at).max(), content.last().copied());
    let (Some(newest), Some((last, _))) = (newest, last) else { return };
    match evicts {
        Evicts::Count(n) => *content = content.split_off(content.len().saturating_sub(n)),
        Evicts::Time(keep) => content.retain(|(_, at)| *at > newest - keep),
        Evicts::Delta(threshold) => content.retain(|(value, _)| (value - last).abs() < threshold),
    }
}
