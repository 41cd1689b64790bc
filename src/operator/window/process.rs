//! Window functions: what a user's function gets of a firing window, and the state it may keep.
//!
//! State is of a key, or of a key and window: the second is dropped with its window, the first never in STREAMING
//! (until it is cleared) and at the end of the key in BATCH.

use crate::base::data::{Data, Key, Timestamp};
use crate::operator::collector::Collector;
use crate::operator::{RuntimeContext, UserResult};
use crate::semantics::state::{KeyedAccess, KeyedScope, Slot, StateDescriptor, States};
use crate::semantics::window::Window;

/// A function over what a firing window holds: its records, or one value if they were aggregated. One value serves one
/// attempt of one subtask and all of its keys and windows; calls come from one thread at a time. Fields
/// of the function are shared by all keys and not restored.
pub trait ProcessWindowFunction<K: Key, In, Out: Data>: Send + 'static {
    /// Before the first record. There is no current key.
    fn open(&mut self, _ctx: &RuntimeContext) -> UserResult {
        Ok(())
    }
    /// A window of `key` fires. `records` are in the order in which they came, in BATCH by timestamp; windows that
    /// have merged come one after the other; there is none only if an evictor has left none. What is emitted carries the last timestamp of the window; in a
    /// global one that of its last record.
    fn process(
        &mut self,
        key: &K,
        ctx: &mut WindowContext,
        records: &[In],
        out: &mut Collector<'_, Out>,
    ) -> UserResult;
    /// The window goes for good; its state is dropped afterwards.
    fn clear(&mut self, _key: &K, _ctx: &mut WindowContext) -> UserResult {
        Ok(())
    }
    /// After the last call, also after a failure.
    fn close(&mut self) -> UserResult {
        Ok(())
    }
}

/// Declares the state of a window function.
#[derive(Default)]
pub struct WindowStates {
    /// State of a key, for all its windows: opened with [`WindowContext::per_key`].
    pub key: States,
    /// State of a key and window: opened with [`WindowContext::per_window`]. Windows that merge cannot have it.
    pub window: States,
}

impl WindowStates {
    /// Everything that is declared.
    pub fn descriptors(&self) -> Vec<StateDescriptor> {
        self.key.descriptors().iter().chain(self.window.descriptors()).cloned().collect()
    }
    /// Whether a state has a time to live.
    pub(crate) fn has_ttl(&self) -> bool {
        self.key.has_ttl() || self.window.has_ttl()
    }
    /// The first name that was declared twice.
    pub fn duplicate(&self) -> Option<String> {
        let all = self.descriptors();
        let twice = |(i, d): (usize, &StateDescriptor)| all[..i].iter().any(|o| o.name == d.name);
        all.iter().enumerate().find(|&(i, d)| twice((i, d))).map(|(_, d)| d.name.clone())
    }
}

/// Opens the state of a key, or of a key and window.
#[derive(Default)]
pub struct WindowScope(KeyedScope);

impl WindowScope {
    pub(super) fn states(&self) -> &States {
        self.0.states()
    }
    pub(super) fn states_mut(&mut self) -> &mut States {
        self.0.states_mut()
    }
}

impl KeyedAccess for WindowScope {
    #[inline(always)]
    fn scope(&self) -> &KeyedScope {
        &self.0
    }
    #[inline(always)]
    fn scope_mut(&mut self) -> &mut KeyedScope {
        &mut self.0
    }
}

/// The window that fires, and the state of its key and its own.
pub struct WindowContext {
    window: Window,
    watermark: Timestamp,
    processing_time: Timestamp,
    runtime: RuntimeContext,
    key: WindowScope,
    own: WindowScope,
}

impl WindowContext {
    pub(super) fn new(runtime: RuntimeContext, states: WindowStates) -> Self {
        WindowContext {
            window: Window::GLOBAL,
            watermark: Timestamp::MIN,
            processing_time: 0,
            runtime,
            // The operator looks whether state is left when the last window of a key goes.
            key: WindowScope(KeyedScope::unnoted(states.key)),
            own: WindowScope(KeyedScope::unnoted(states.window)),
        }
    }
    pub(super) fn set_time(&mut self, watermark: Timestamp, processing_time: Timestamp) {
        (self.watermark, self.processing_time) = (watermark, processing_time);
        self.key.0.set_now(processing_time);
        self.own.0.set_now(processing_time);
    }
    pub(super) fn set(&mut self, window: Window, key: Slot, own: Slot) {
        self.window = window;
        self.key.0.set_slot(key);
        self.own.0.set_slot(own);
    }
    pub(super) fn key_states(&self) -> &States {
        self.key.0.states()
    }
    pub(super) fn window_states(&self) -> &States {
        self.own.0.states()
    }
    /// Drops state of the key and of the window that was found to have expired.
    #[inline]
    pub(super) fn clean_up(&mut self) {
        for WindowScope(scope) in [&mut self.key, &mut self.own] {
            if scope.states().has_ttl() && scope.take_used().expired {
                let (slot, now) = (scope.slot(), scope.now());
                (0..scope.states().columns()).for_each(|column| scope.states_mut().purge(column, slot, now));
            }
        }
    }
    pub(super) fn key_scope(&mut self) -> &mut WindowScope {
        &mut self.key
    }
    pub(super) fn window_scope(&mut self) -> &mut WindowScope {
        &mut self.own
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }
    /// The watermark. In BATCH it is at its minimum until the end of each key, then at its maximum.
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }
    /// The clock of the machine, in milliseconds since the epoch. In BATCH it stands still.
    pub fn processing_time(&self) -> Timestamp {
        self.processing_time
    }
    /// The subtask this function runs in.
    pub fn runtime(&self) -> &RuntimeContext {
        &self.runtime
    }
    /// Opens state of the key, which all its windows share.
    pub fn per_key(&mut self) -> &mut WindowScope {
        &mut self.key
    }
    /// Opens state of this key and window, which goes with the window.
    pub fn per_window(&mut self) -> &mut WindowScope {
        &mut self.own
    }
}
