//! S2, S3: state with a time to live, against a model that keeps the time of last use beside each entry.

use super::*;
use crate::base::data::Timestamp;
use std::time::Duration;

const TTL: i64 = 10;

fn config(read: bool, shows: bool) -> StateTtl {
    let ttl = StateTtl::new(Duration::from_millis(TTL as u64));
    let ttl = ttl.update(if read { TtlUpdate::OnReadAndWrite } else { TtlUpdate::OnCreateAndWrite });
    ttl.visibility(if shows {
        TtlVisibility::ReturnExpiredIfNotCleanedUp
    } else {
        TtlVisibility::NeverReturnExpired
    })
}

struct Timed {
    value: ValueState<u32>,
    list: ListState<u32>,
    map: MapState<u32, u32>,
    sum: ReducingState<u32>,
    mean: AggregatingState<u32, Mean>,
}

fn declare(ttl: StateTtl) -> (KeyedScope, Timed) {
    let mut states = States::default();
    let mut with = states.with_ttl(ttl);
    let timed = Timed {
        value: with.value("v"),
        list: with.list("l"),
        map: with.map("m"),
        sum: with.reducing("r", |sum, n| *sum += n),
        mean: with.aggregating("a", Mean),
    };
    (KeyedScope::new(states), timed)
}

#[derive(Clone, Debug)]
enum Call {
    Pass(i64),
    Set(u32),
    Get,
    Add(u32),
    Extend(Vec<u32>),
    Update(u32),
    Retain(u32),
    TakeList,
    List,
    Insert(u32, u32),
    Change(u32),
    Remove(u32),
    Entry(u32),
    RetainEntries(u32),
    TakeMap,
    Map,
    Sum(u32),
    Restore,
    Purge,
}

fn steps() -> impl Strategy<Value = Vec<Call>> {
    use Call::*;
    let n = || 0..5u32;
    let step = prop_oneof![
        6 => (0..8i64).prop_map(Pass),
        1 => n().prop_map(Set),
        1 => Just(Get),
        2 => n().prop_map(Add),
        1 => prop::collection::vec(n(), 0..3).prop_map(Extend),
        1 => n().prop_map(Update),
        1 => n().prop_map(Retain),
        1 => Just(TakeList),
        2 => Just(List),
        3 => (n(), n()).prop_map(|(k, v)| Insert(k, v)),
        1 => n().prop_map(Change),
        1 => n().prop_map(Remove),
        2 => n().prop_map(Entry),
        1 => n().prop_map(RetainEntries),
        1 => Just(TakeMap),
        1 => Just(Map),
        2 => n().prop_map(Sum),
        1 => Just(Restore),
        1 => Just(Purge),
    ];
    prop::collection::vec(step, 1..100)
}

/// What is stored, each entry with the time of its last use, which never expires by itself.
#[derive(Default)]
struct Model {
    now: Timestamp,
    read: bool,
    value: Option<(u32, Timestamp)>,
    list: Vec<(u32, Timestamp)>,
    map: BTreeMap<u32, (u32, Timestamp)>,
    sum: Option<(u32, Timestamp)>,
}

impl Model {
    fn lives(&self, used: Timestamp) -> bool {
        used + TTL > self.now
    }
    /// Nothing that has expired is left: what a program sees that never sees it.
    fn purge(&mut self) {
        let now = self.now;
        let lives = |used: Timestamp| used + TTL > now;
        self.value = self.value.filter(|value| lives(value.1));
        self.sum = self.sum.filter(|sum| lives(sum.1));
        self.list.retain(|element| lives(element.1));
        self.map.retain(|_, value| lives(value.1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// S2: what has expired is never seen, whether it has been cleaned up or not, for each entry by itself.
    #[test]
    fn s2_expired_entries_are_never_seen(steps in steps(), read in any::<bool>()) {
        let (mut ctx, mut timed) = declare(config(read, false));
        let mut model = Model { read, ..Model::default() };
        for step in steps {
            model.purge();
            let now = model.now;
            let refreshed = |used: Timestamp| if read { now } else { used };
            match step.clone() {
                Call::Pass(ms) => {
                    model.now += ms;
                    ctx.set_now(model.now);
                    model.purge();
                }
                Call::Set(n) => {
                    timed.value.set(&mut ctx, n);
                    model.value = Some((n, now));
                }
                Call::Get => {
                    prop_assert_eq!(timed.value.get(&ctx).copied(), model.value.map(|value| value.0));
                    model.value = model.value.map(|(n, used)| (n, refreshed(used)));
                }
                Call::Add(n) => {
                    timed.list.add(&mut ctx, n);
                    model.list.push((n, now));
                }
                Call::Extend(more) => {
                    timed.list.extend(&mut ctx, more.clone());
                    model.list.extend(more.iter().map(|&n| (n, now)));
                }
                Call::Update(n) => {
                    timed.list.update(&mut ctx, |list| list.iter_mut().for_each(|other| *other += n));
                    model.list.iter_mut().for_each(|(other, used)| (*other, *used) = (*other + n, now));
                }
                Call::Retain(n) => {
                    timed.list.retain(&mut ctx, |&other| other < n);
                    model.list.retain(|&(other, _)| other < n);
                }
                Call::TakeList => {
                    let list: Vec<u32> = std::mem::take(&mut model.list).into_iter().map(|e| e.0).collect();
                    prop_assert_eq!(timed.list.take(&mut ctx), list);
                }
                Call::List => {
                    prop_assert_eq!(timed.list.len(&ctx), model.list.len());
                    prop_assert_eq!(timed.list.is_empty(&ctx), model.list.is_empty());
                    prop_assert!(timed.list.iter(&ctx).eq(model.list.iter().map(|(n, _)| n)));
                    model.list.iter_mut().for_each(|(_, used)| *used = refreshed(*used));
                }
                Call::Insert(k, v) => {
                    let before = model.map.insert(k, (v, now)).map(|before| before.0);
                    prop_assert_eq!(timed.map.insert(&mut ctx, k, v), before);
                }
                Call::Change(k) => {
                    timed.map.update(&mut ctx, k, |value| *value += 1);
                    let value = model.map.entry(k).or_default();
                    *value = (value.0 + 1, now);
                    let next = timed.map.get_mut(&mut ctx, &(k + 1)).map(|value| { *value += 1; *value });
                    let expected = model.map.get_mut(&(k + 1)).map(|value| { *value = (value.0 + 1, now); value.0 });
                    prop_assert_eq!(next, expected);
                }
                Call::Remove(k) => {
                    prop_assert_eq!(timed.map.remove(&mut ctx, &k), model.map.remove(&k).map(|value| value.0));
                }
                Call::Entry(k) => {
                    prop_assert_eq!(timed.map.get(&ctx, &k).copied(), model.map.get(&k).map(|value| value.0));
                    model.map.entry(k).and_modify(|value| value.1 = refreshed(value.1));
                }
                Call::RetainEntries(n) => {
                    timed.map.retain(&mut ctx, |&k, _| k != n);
                    model.map.remove(&n);
                }
                Call::TakeMap => {
                    let expected: BTreeMap<u32, u32> =
                        std::mem::take(&mut model.map).into_iter().map(|(k, v)| (k, v.0)).collect();
                    prop_assert_eq!(timed.map.take(&mut ctx), expected);
                }
                Call::Map => {
                    prop_assert_eq!(timed.map.len(&ctx), model.map.len());
                    prop_assert_eq!(timed.map.is_empty(&ctx), model.map.is_empty());
                    let entries: Vec<(u32, u32)> = timed.map.iter(&ctx).map(|(&k, &v)| (k, v)).collect();
                    prop_assert!(entries.into_iter().eq(model.map.iter().map(|(&k, v)| (k, v.0))));
                    model.map.values_mut().for_each(|value| value.1 = refreshed(value.1));
                    prop_assert_eq!(timed.map.range(&ctx, 2..).count(), model.map.range(2..).count());
                }
                Call::Sum(n) => {
                    timed.sum.add(&mut ctx, n);
                    timed.mean.add(&mut ctx, n);
                    model.sum = Some((model.sum.map_or(0, |sum| sum.0) + n, now));
                    prop_assert_eq!(timed.sum.get(&ctx).copied(), model.sum.map(|sum| sum.0));
                    prop_assert!(timed.mean.get(&ctx).is_some());
                }
                Call::Restore => {
                    // Times of last use are part of a snapshot; what they mean is not.
                    let (mut other, handles) = declare(config(read, false));
                    let reader = other.states().reader(ctx.states().written()).unwrap();
                    let live_at = (now % 2 == 0).then_some(now);
                    let mut bytes = Vec::new();
                    ctx.states().encode_slot(0, live_at, &mut bytes).unwrap();
                    other.states_mut().decode_slot(0, &reader, &bytes).unwrap();
                    other.set_now(now);
                    (ctx, timed) = (other, handles);
                }
                Call::Purge => {
                    (0..5).for_each(|column| ctx.states_mut().purge(column, 0, now));
                    prop_assert!((0..5).all(|column| !ctx.states().has_expired(column, 0, now)));
                    let nothing = model.value.is_none() && model.sum.is_none() && model.list.is_empty();
                    prop_assert_eq!(ctx.states().is_empty(0), nothing && model.map.is_empty());
                }
            }
        }
        prop_assert!(model.read == read && model.lives(model.now));
    }
}

/// S2: with the other visibility what has expired is seen until it is cleaned up.
#[test]
fn s2_expired_entries_are_seen_until_they_are_cleaned_up() {
    let (mut ctx, timed) = declare(config(true, true));
    timed.value.set(&mut ctx, 1);
    timed.list.extend(&mut ctx, [1, 2]);
    timed.map.insert(&mut ctx, 1, 1);
    ctx.set_now(4);
    timed.list.add(&mut ctx, 3);
    timed.map.insert(&mut ctx, 2, 2);
    ctx.take_used();
    ctx.set_now(11);
    assert_eq!(timed.value.get(&ctx), Some(&1));
    assert_eq!(ctx.take_used(), TtlUse { accessed: true, expired: true });
    assert_eq!((timed.list.get(&ctx), timed.map.iter(&ctx).count()), (&[1, 2, 3][..], 2));
    (0..3).for_each(|column| ctx.states_mut().purge(column, 0, 11));
    assert_eq!((timed.value.get(&ctx), timed.list.get(&ctx)), (None, &[3][..]));
    assert_eq!(timed.map.iter(&ctx).map(|entry| *entry.0).collect::<Vec<_>>(), [2]);
    ctx.take_used();
    ctx.set_now(20);
    assert_eq!((timed.list.get(&ctx), timed.map.len(&ctx)), (&[3][..], 1), "reading has refreshed them");
    assert_eq!(ctx.take_used(), TtlUse { accessed: true, expired: false });
}

/// S3: a full snapshot leaves out what has expired where that is asked for; what is in memory stays.
#[test]
fn s3_full_snapshots_leave_out_what_has_expired() {
    for cleans in [false, true] {
        let ttl = config(false, true);
        let (mut ctx, timed) = declare(if cleans { ttl.cleanup_full_snapshot() } else { ttl });
        timed.value.set(&mut ctx, 1);
        timed.list.extend(&mut ctx, [1, 2]);
        timed.map.extend(&mut ctx, [(1, 1), (2, 2)]);
        ctx.set_now(5);
        timed.list.add(&mut ctx, 3);
        timed.map.insert(&mut ctx, 3, 3);
        let (mut full, mut delta) = (Vec::new(), Vec::new());
        ctx.states().encode_slot(0, Some(12), &mut full).unwrap();
        ctx.states().encode_slot(0, None, &mut delta).unwrap();
        assert_eq!(full.len() < delta.len(), cleans);
        let (mut other, read) = declare(ttl);
        let reader = other.states().reader(ctx.states().written()).unwrap();
        other.states_mut().decode_slot(0, &reader, &full).unwrap();
        other.set_now(12);
        let expected = if cleans { (false, 1, 1) } else { (true, 3, 3) };
        let found = (read.value.get(&other).is_some(), read.list.len(&other), read.map.len(&other));
        assert_eq!(found, expected);
        ctx.set_now(12);
        assert_eq!((timed.list.len(&ctx), timed.map.len(&ctx)), (3, 3));
    }
}

/// S2: a time to live may be changed, but not given or taken away.
#[test]
fn s2_with_and_without_a_time_to_live_are_incompatible() {
    let (ctx, _) = declare(config(false, false));
    let longer = declare(StateTtl::new(Duration::from_secs(100)).cleanup_incrementally(0, false)).0;
    assert!(longer.states().reader(ctx.states().written()).is_ok());
    let mut states = States::default();
    states.value::<u32>("v");
    let (kind, message) = error_of(states.reader(ctx.states().written()));
    assert!(
        kind == ErrorKind::User && message.contains("'v'") && message.contains("time to live"),
        "{message}"
    );
    let (_, message) = error_of(ctx.states().reader(states.written()));
    assert!(message.contains("'v'") && message.contains("no time to live"), "{message}");
}
