//! All kinds of state against models, with a slot for each key and with one slot for one key after the other.

use super::*;
use crate::base::data::State;
use crate::base::error::{Error, ErrorKind};
use crate::semantics::aggregate::Aggregator;
use proptest::prelude::*;
use qcell::QCellOwner;
use std::collections::BTreeMap;

/// The mean, so that accumulator and result differ.
#[derive(Clone)]
struct Mean;

impl Aggregator<u32> for Mean {
    type Acc = (u64, u32);
    type Out = u64;
    fn create(&self) -> (u64, u32) {
        (0, 0)
    }
    fn add(&self, acc: &mut (u64, u32), n: u32) {
        acc.0 += u64::from(n);
        acc.1 += 1;
    }
    fn merge(&self, acc: &mut (u64, u32), other: (u64, u32)) {
        acc.0 += other.0;
        acc.1 += other.1;
    }
    fn result(&self, acc: &(u64, u32)) -> u64 {
        acc.0 / u64::from(acc.1.max(1))
    }
}

/// One state of each kind.
struct Kinds {
    value: ValueState<u32>,
    list: ListState<u32>,
    map: MapState<u32, u32>,
    reducing: ReducingState<u32>,
    aggregating: AggregatingState<u32, Mean>,
    broadcast: BroadcastState<String, u32>,
}

impl Kinds {
    fn declare(states: &mut States) -> Kinds {
        Kinds {
            value: states.value("v"),
            broadcast: states.broadcast("b"),
            list: states.list("l"),
            map: states.map("m"),
            reducing: states.reducing("r", |folded, n| *folded = folded.wrapping_mul(31).wrapping_add(n)),
            aggregating: states.aggregating("a", Mean),
        }
    }

    /// Everything that the current key holds, as it is read.
    fn read(&self, ctx: &KeyedScope) -> Model {
        assert!(self.list.iter(ctx).eq(self.list.get(ctx)));
        assert!(self.map.keys(ctx).zip(self.map.values(ctx)).eq(self.map.iter(ctx)));
        assert_eq!(self.list.is_empty(ctx), self.list.len(ctx) == 0);
        assert_eq!(self.map.is_empty(ctx), self.map.len(ctx) == 0);
        Model {
            value: self.value.get(ctx).copied(),
            list: self.list.get(ctx).to_vec(),
            map: self.map.iter(ctx).map(|(&k, &v)| (k, v)).collect(),
            reducing: self.reducing.get(ctx).copied(),
            mean: self.aggregating.get(ctx),
        }
    }
}

/// What a key should hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    value: Option<u32>,
    list: Vec<u32>,
    map: BTreeMap<u32, u32>,
    reducing: Option<u32>,
    mean: Option<u64>,
}

/// What was added to the aggregate of a key, beside its model.
type Added = Vec<u32>;

#[derive(Clone, Debug)]
enum Step {
    Value(Option<u32>),
    ValueUpdate(u32),
    ListAdd(u32),
    ListExtend(Vec<u32>),
    ListSet(Vec<u32>),
    ListRetain(u32),
    ListTake,
    ListClear,
    MapInsert(u32, u32),
    MapUpdate(u32, u32),
    MapExtend(Vec<(u32, u32)>),
    MapRemove(u32),
    MapRetain(u32),
    MapTake,
    MapClear,
    Reduce(u32),
    ReducingTake,
    ReducingClear,
    Aggregate(u32),
    AggregatingClear,
}

fn steps() -> impl Strategy<Value = Vec<(u32, Step)>> {
    use Step::*;
    let n = || 0..6u32;
    let step = prop_oneof![
        prop::option::of(n()).prop_map(Value),
        n().prop_map(ValueUpdate),
        n().prop_map(ListAdd),
        prop::collection::vec(n(), 0..3).prop_map(ListExtend),
        prop::collection::vec(n(), 0..3).prop_map(ListSet),
        n().prop_map(ListRetain),
        Just(ListTake),
        Just(ListClear),
        (n(), n()).prop_map(|(k, v)| MapInsert(k, v)),
        (n(), n()).prop_map(|(k, v)| MapUpdate(k, v)),
        prop::collection::vec((n(), n()), 0..3).prop_map(MapExtend),
        n().prop_map(MapRemove),
        n().prop_map(MapRetain),
        Just(MapTake),
        Just(MapClear),
        n().prop_map(Reduce),
        Just(ReducingTake),
        Just(ReducingClear),
        n().prop_map(Aggregate),
        Just(AggregatingClear),
    ];
    prop::collection::vec((0..5u32, step), 0..120)
}

/// Applies a step to the current key and to its model.
fn apply(kinds: &Kinds, ctx: &mut KeyedScope, model: &mut Model, added: &mut Added, step: &Step) {
    match step.clone() {
        Step::Value(Some(n)) => {
            kinds.value.set(ctx, n);
            model.value = Some(n);
        }
        Step::Value(None) => assert_eq!(kinds.value.take(ctx), model.value.take()),
        Step::ValueUpdate(n) => {
            kinds.value.update(ctx, |value| *value += n);
            *model.value.get_or_insert_default() += n;
        }
        Step::ListAdd(n) => {
            kinds.list.add(ctx, n);
            model.list.push(n);
        }
        Step::ListExtend(more) => {
            kinds.list.extend(ctx, more.clone());
            model.list.extend(more);
        }
        Step::ListSet(list) => {
            kinds.list.set(ctx, list.clone());
            model.list = list;
        }
        Step::ListRetain(n) => {
            kinds.list.retain(ctx, |&other| other < n);
            model.list.retain(|&other| other < n);
            kinds.list.get_mut(ctx).reverse();
            model.list.reverse();
        }
        Step::ListTake => assert_eq!(kinds.list.take(ctx), std::mem::take(&mut model.list)),
        Step::ListClear => {
            kinds.list.clear(ctx);
            model.list.clear();
        }
        Step::MapInsert(k, v) => assert_eq!(kinds.map.insert(ctx, k, v), model.map.insert(k, v)),
        Step::MapUpdate(k, v) => {
            kinds.map.update(ctx, k, |value| *value += v);
            *model.map.entry(k).or_default() += v;
        }
        Step::MapExtend(more) => {
            kinds.map.extend(ctx, more.clone());
            model.map.extend(more);
        }
        Step::MapRemove(k) => {
            assert_eq!(kinds.map.contains_key(ctx, &k), model.map.contains_key(&k));
            assert_eq!(kinds.map.remove(ctx, &k), model.map.remove(&k));
            assert_eq!(kinds.map.get(ctx, &k), None);
        }
        Step::MapRetain(n) => {
            kinds.map.retain(ctx, |&k, _| k < n);
            model.map.retain(|&k, _| k < n);
            kinds.map.iter_mut(ctx).for_each(|(_, value)| *value += 1);
            model.map.values_mut().for_each(|value| *value += 1);
            if let Some(value) = kinds.map.get_mut(ctx, &0) {
                *value += 1;
            }
            model.map.entry(0).and_modify(|value| *value += 1);
        }
        Step::MapTake => assert_eq!(kinds.map.take(ctx), std::mem::take(&mut model.map)),
        Step::MapClear => {
            kinds.map.clear(ctx);
            model.map.clear();
        }
        Step::Reduce(n) => {
            kinds.reducing.add(ctx, n);
            model.reducing = Some(model.reducing.map_or(n, |old| old.wrapping_mul(31).wrapping_add(n)));
        }
        Step::ReducingTake => assert_eq!(kinds.reducing.take(ctx), model.reducing.take()),
        Step::ReducingClear => {
            kinds.reducing.clear(ctx);
            model.reducing = None;
        }
        Step::Aggregate(n) => {
            kinds.aggregating.add(ctx, n);
            added.push(n);
            model.mean = Some(added.iter().map(|&n| u64::from(n)).sum::<u64>() / added.len() as u64);
        }
        Step::AggregatingClear => {
            kinds.aggregating.clear(ctx);
            added.clear();
            model.mean = None;
        }
    }
}

fn scope() -> (KeyedScope, Kinds) {
    let mut states = States::default();
    let kinds = Kinds::declare(&mut states);
    (KeyedScope::new(states), kinds)
}

/// Applies a step and checks that a key that has lost its last state is told to the engine.
fn checked(kinds: &Kinds, ctx: &mut KeyedScope, model: &mut Model, added: &mut Added, step: &Step) {
    let slot = ctx.slot();
    let held = !ctx.states().is_empty(slot);
    apply(kinds, ctx, model, added, step);
    assert_eq!(kinds.read(ctx), *model, "{step:?}");
    let holds = !ctx.states().is_empty(slot);
    assert_eq!(holds, *model != Model::default(), "{step:?}");
    let mut cleared = Vec::new();
    ctx.take_cleared(&mut cleared);
    assert!(cleared.iter().all(|&other| other == slot), "{step:?}: {cleared:?}");
    assert!(holds || !held || !cleared.is_empty(), "{step:?}: nobody learns that slot {slot} is empty");
}

proptest! {
    /// S1: each kind is scoped to the current key, in both state scopes; what a key holds survives a snapshot.
    #[test]
    fn s1_each_kind_follows_its_model(steps in steps()) {
        // A slot for each key, the keys interleaved.
        let (mut all, kinds) = scope();
        let mut models: BTreeMap<u32, (Model, Added)> = BTreeMap::new();
        for (key, step) in &steps {
            all.set_slot(key * 40_000);
            let (model, added) = models.entry(*key).or_default();
            checked(&kinds, &mut all, model, added, step);
        }
        // One slot, the keys one after the other.
        let (mut one, kinds_of_one) = scope();
        for (&key, (expected, _)) in &models {
            let (mut model, mut added) = Default::default();
            for (_, step) in steps.iter().filter(|(other, _)| *other == key) {
                checked(&kinds_of_one, &mut one, &mut model, &mut added, step);
            }
            prop_assert_eq!(&kinds_of_one.read(&one), expected);
            one.states_mut().clear(0);
            prop_assert!(one.states().is_empty(0));
            prop_assert_eq!(kinds_of_one.read(&one), Model::default());
        }
        // Written by the first, read by another that declares in another order.
        let mut states = States::default();
        states.value::<u8>("new");
        let aggregating = states.aggregating("a", Mean);
        let reducing = states.reducing("r", (|_, _| ()) as fn(&mut u32, u32));
        let (map, list, value) = (states.map("m"), states.list("l"), states.value("v"));
        let restored = Kinds { value, list, map, reducing, aggregating, broadcast: states.broadcast("b") };
        let mut other = KeyedScope::new(states);
        let reader = other.states().reader(all.states().written()).unwrap();
        for (&key, (expected, _)) in &models {
            let stored = stored(all.states(), key * 40_000);
            prop_assert_eq!(stored.is_empty(), *expected == Model::default());
            other.states_mut().decode_slot(key, &reader, &stored).unwrap();
        }
        for (&key, (expected, _)) in &models {
            other.set_slot(key);
            prop_assert_eq!(&restored.read(&other), expected);
            prop_assert_eq!(other.states().is_empty(key), *expected == Model::default());
        }
    }

    /// S1: a range of a map's entries is that of a `BTreeMap`, and empty where that one would panic.
    #[test]
    fn s1_ranges_of_a_map(keys in prop::collection::vec(0..8i64, 0..8), from in 0..8i64, to in 0..8i64) {
        use std::ops::Bound::{Excluded, Included};
        let mut states = States::default();
        let map = states.map::<i64, ()>("m");
        let mut ctx = KeyedScope::new(states);
        map.extend(&mut ctx, keys.iter().map(|&key| (key, ())));
        let found = |start, end| map.range(&ctx, (start, end)).map(|(&k, _)| k).collect::<Vec<i64>>();
        let expected = |inside: &dyn Fn(i64) -> bool| {
            let keys: std::collections::BTreeSet<i64> = keys.iter().copied().collect();
            keys.into_iter().filter(|&key| inside(key)).collect::<Vec<_>>()
        };
        prop_assert_eq!(found(Included(from), Excluded(to)), expected(&|k| from <= k && k < to));
        prop_assert_eq!(found(Included(from), Included(to)), expected(&|k| from <= k && k <= to));
        prop_assert_eq!(found(Excluded(from), Excluded(to)), expected(&|k| from < k && k < to));
        prop_assert_eq!(found(Excluded(from), Included(to)), expected(&|k| from < k && k <= to));
        prop_assert!(map.range(&ctx, ..to).rev().all(|(&k, _)| k < to));
    }
}

/// S1: kind and type of a state are told to the plan, and a name that is used twice is found.
#[test]
fn s1_descriptors() {
    let mut states = States::default();
    Kinds::declare(&mut states);
    let told: Vec<_> = states.descriptors().iter().map(|d| (d.name.as_str(), d.kind, d.type_name)).collect();
    let expected = [
        ("v", "value", "u32"),
        ("b", "broadcast", "(alloc::string::String, u32)"),
        ("l", "list", "u32"),
        ("m", "map", "(u32, u32)"),
        ("r", "reducing", "u32"),
        ("a", "aggregating", "(u64, u32)"),
    ];
    assert_eq!(told, expected);
    assert_eq!(states.duplicate(), None);
    states.list::<u64>("b");
    assert_eq!(states.duplicate(), Some("b"));
}

/// S1: a fold that captures something has a type of its own.
#[test]
fn s1_a_fold_may_capture() {
    fn sum_up<F: Fn(&mut u64, u64)>(total: &ReducingState<u64, F>) -> &ReducingState<u64, F> {
        total
    }
    let mut states = States::default();
    let limit = 10;
    let total = states.reducing("total", move |total: &mut u64, n| *total = limit.min(*total + n));
    let mut ctx = KeyedScope::new(states);
    for n in [3, 4, 5] {
        sum_up(&total).add(&mut ctx, n);
    }
    assert_eq!(total.get(&ctx), Some(&10));
}

/// What a key holds, as bytes.
fn stored(states: &States, slot: Slot) -> Vec<u8> {
    let mut bytes = Vec::new();
    states.encode_slot(slot, None, &mut bytes).unwrap();
    bytes
}

fn error_of<T>(result: Result<T, Error>) -> (ErrorKind, String) {
    result.map(|_| ()).map_err(|e| (e.kind(), e.to_string())).unwrap_err()
}

/// S1: what cannot be restored names the state.
#[test]
fn s1_restoring_what_is_not_declared_or_not_of_the_type() {
    let mut states = States::default();
    let list = states.list::<String>("words");
    states.broadcast::<u8, u8>("rules");
    let reader = |name: &str, kind: &str| {
        let (name, kind) = (name.to_string(), kind.to_string());
        states.reader(vec![WrittenState { name, kind, ttl: false, serializer: None }])
    };
    let (kind, message) = error_of(reader("gone", "list"));
    assert!(kind == ErrorKind::User && message.contains("keyed state 'gone'"), "{message}");
    let (_, message) = error_of(reader("rules", "map"));
    assert!(message.contains("keyed state 'rules'"), "{message}");
    let (kind, message) = error_of(reader("words", "map"));
    let told = message.contains("state 'words'") && message.contains("'map', and is declared as 'list'");
    assert!(kind == ErrorKind::User && told, "{message}");
    let reader = reader("words", "list").unwrap();
    let (kind, message) = error_of(states.restore_broadcast(&[("words", [0])]));
    assert!(kind == ErrorKind::User && message.contains("broadcast state 'words'"), "{message}");
    let (kind, message) = error_of(states.decode_slot(0, &reader, &[0, 1, 200]));
    assert!(kind == ErrorKind::Usage && message.starts_with("state 'words' cannot be restored"), "{message}");
    let (_, message) = error_of(states.restore_broadcast(&[("rules", [3, 1])]));
    assert!(message.starts_with("state 'rules' cannot be restored"), "{message}");
    let ctx = KeyedScope::new(states);
    assert_eq!((list.len(&ctx), ctx.states().is_empty(0)), (0, true));
}

/// The side that may only read.
struct Reading<'a>(&'a KeyedScope);
/// The side that also writes.
struct Writing<'a>(&'a mut KeyedScope);

impl BroadcastRead for Reading<'_> {
    fn broadcast(&self) -> &QCellOwner {
        self.0.states().owner()
    }
}
impl BroadcastRead for Writing<'_> {
    fn broadcast(&self) -> &QCellOwner {
        self.0.states().owner()
    }
}
impl BroadcastWrite for Writing<'_> {
    fn broadcast_mut(&mut self) -> &mut QCellOwner {
        self.0.states_mut().owner_mut()
    }
}

fn rules(ctx: &KeyedScope, rules: &BroadcastState<String, u32>) -> Vec<(String, u32)> {
    rules.iter(&Reading(ctx)).map(|(name, &n)| (name.clone(), n)).collect()
}

/// S7: broadcast state is of the subtask: no key's `clear` touches it, several names stand beside each other, and each
/// subtask's copy survives a snapshot.
#[test]
fn s7_broadcast_state() {
    let (mut ctx, kinds) = scope();
    let state = &kinds.broadcast;
    let mut side = Writing(&mut ctx);
    assert!(state.is_empty(&side));
    assert_eq!(state.insert(&mut side, "b".into(), 1), None);
    assert_eq!(state.insert(&mut side, "b".into(), 2), Some(1));
    state.insert(&mut side, "a".into(), 7);
    state.update(&mut side, "c".into(), |n| *n += 3);
    assert_eq!(state.remove(&mut side, "a"), Some(7));
    assert_eq!(
        (state.get(&side, "b"), state.contains_key(&side, "a"), state.len(&side)),
        (Some(&2), false, 2)
    );

    let expected = [("b".to_string(), 2), ("c".to_string(), 3)];
    assert!(ctx.states().is_empty(0), "broadcast state keeps no key alive");
    kinds.value.set(&mut ctx, 1);
    ctx.states_mut().clear(0);
    assert_eq!(rules(&ctx, state), expected);
    assert!(stored(ctx.states(), 0).is_empty());
    assert!(state.keys(&Reading(&ctx)).eq(["b", "c"]) && state.values(&Reading(&ctx)).eq([&2, &3]));

    let mut states = States::default();
    let other = states.broadcast::<u8, u8>("other");
    let restored = states.broadcast("b");
    let snapshot = ctx.states().snapshot_broadcast().unwrap();
    states.restore_broadcast(&snapshot).unwrap();
    let mut copy = KeyedScope::new(states);
    assert_eq!(rules(&copy, &restored), expected);
    restored.insert(&mut Writing(&mut copy), "z".into(), 0);
    copy.states_mut().restore_broadcast(&snapshot).unwrap();
    assert_eq!(rules(&copy, &restored), expected, "restoring replaces");
    assert!(other.is_empty(&Reading(&copy)));

    restored.retain(&mut Writing(&mut copy), |name, _| name == "c");
    assert_eq!(restored.len(&Reading(&copy)), 1);
    restored.clear(&mut Writing(&mut copy));
    let cleared = copy.states().snapshot_broadcast().unwrap();
    ctx.states_mut().restore_broadcast(&cleared[1..]).unwrap();
    assert!(rules(&ctx, state).is_empty(), "an empty map is restored as one");
}

/// A snapshot of an operator keeps the order of its entries and comes back from its own bytes.
#[test]
fn operator_snapshots_round_trip() {
    fn all<T: State>(snapshot: &OperatorSnapshot, section: &str) -> Vec<T> {
        snapshot.entries(section).collect::<Result<_, _>>().unwrap()
    }
    let mut snapshot = OperatorSnapshot::default();
    assert!(snapshot.is_empty());
    for key in ["b", "a"] {
        snapshot.put("keys", &(key, vec![("total", vec![1u8])])).unwrap();
    }
    snapshot.put("watermark", &i64::MIN).unwrap();
    let mut bytes = Vec::new();
    crate::base::codec::encode(&snapshot, &mut bytes).unwrap();
    let back: OperatorSnapshot = crate::base::codec::decode(&bytes).unwrap();
    assert_eq!(back, snapshot);
    assert!(
        !back.is_empty()
            && back.sections().map(|(name, _)| name).eq(["keys", "watermark"])
            && back.bytes() < 40
    );
    let keys = all::<(String, Vec<(String, Vec<u8>)>)>(&back, "keys");
    assert!(keys.iter().map(|(key, _)| key.as_str()).eq(["b", "a"]));
    assert_eq!(all::<i64>(&back, "watermark"), [i64::MIN]);
    assert_eq!((back.len("keys"), back.len("timers"), all::<u8>(&back, "timers").len()), (2, 0, 0));
    assert!(back.entries::<u8>("keys").all(|entry| entry.is_err()));
}

mod serializers;
mod ttl;
