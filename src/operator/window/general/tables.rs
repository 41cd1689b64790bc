//! Tables of a window operator: a row for each key and window, and tables for the state that a function has declared, of keys
//! and of windows.

use super::snapshot::{SECTION, STATES, SavedWindow};
use crate::base::codec;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::window::process::WindowStates;
use crate::semantics::state::tables::{Bytes, Part, RowReader, RowWriter, TableKind};
use crate::semantics::state::{
    CellSource, ImportedState, KeySections, OperatorState, StateTable, TakeCells, tables_of_states,
};
use crate::semantics::window::Window;
use std::marker::PhantomData;

/// Where the states of keys, and those of windows, are until their entries are put together. No sections of a snapshot.
const IMPORTED: [&str; 2] = ["imported states of keys", "imported states of windows"];

type Saved<K, C, S> = (K, Vec<u8>, Vec<SavedWindow<Option<C>, S>>);
type Types<K, C, S> = PhantomData<fn() -> (K, C, S)>;

/// What the snapshots of a window operator hold.
pub(super) fn state_tables<K: Key, C: Data, S: Data>(
    states: Option<&WindowStates>,
) -> Vec<Box<dyn StateTable>> {
    let mut tables: Vec<Box<dyn StateTable>> = Vec::new();
    if let Some(WindowStates { key, window }) = states {
        let sections = |i: usize| KeySections { keys: IMPORTED[i], states: STATES[i] };
        tables.extend(tables_of_states(key, sections(0), || OfKeys::<K, C, S>(PhantomData)));
        tables.extend(tables_of_states(window, sections(1), || OfWindows::<K, C, S>(PhantomData)));
    }
    // Last: it puts the entries together.
    tables.push(Box::new(WindowsTable::<K, C, S>(PhantomData)));
    tables
}

struct OfKeys<K, C, S>(Types<K, C, S>);

impl<K: Key, C: Data, S: Data> CellSource for OfKeys<K, C, S> {
    fn prefix(&self) -> Vec<Part> {
        vec![Part::of::<K>("key")]
    }
    fn each(&self, state: &OperatorState, take: &mut TakeCells<'_>) -> Result<()> {
        for entry in state.table::<Saved<K, C, S>>(SECTION) {
            let (subtask, _, (key, states, _)) = entry?;
            take(subtask, hash_of(&key), &[&key], &states)?;
        }
        Ok(())
    }
}

struct OfWindows<K, C, S>(Types<K, C, S>);

impl<K: Key, C: Data, S: Data> CellSource for OfWindows<K, C, S> {
    fn prefix(&self) -> Vec<Part> {
        vec![Part::of::<K>("key"), Part::of::<Window>("window")]
    }
    fn each(&self, state: &OperatorState, take: &mut TakeCells<'_>) -> Result<()> {
        for entry in state.table::<Saved<K, C, S>>(SECTION) {
            let (subtask, _, (key, _, windows)) = entry?;
            for (window, _, _, _, _, states) in windows {
                take(subtask, hash_of(&key), &[&key, &window], &states)?;
            }
        }
        Ok(())
    }
}

/// The windows.
struct WindowsTable<K, C, S>(Types<K, C, S>);

/// Windows of one key while they are put together.
#[derive(Default)]
struct Windows {
    count: usize,
    bytes: Vec<u8>,
}

fn encoded(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes)?;
    Ok(bytes)
}

impl Windows {
    fn put(self, at: &(usize, Vec<u8>), states: Vec<u8>, into: &mut ImportedState) -> Result<()> {
        let (states, count) = (encoded(&Bytes(states))?, encoded(&self.count)?);
        into.put_entry(at.0, SECTION, &[&at.1, &states, &count, &self.bytes])
    }
}

impl<K: Key, C: Data, S: Data> StateTable for WindowsTable<K, C, S> {
    fn name(&self) -> &str {
        SECTION
    }
    fn kind(&self) -> TableKind {
        TableKind::Windows
    }
    fn parts(&self) -> Vec<Part> {
        vec![
            Part::of::<K>("key"),
            Part::of::<Window>("window"),
            Part::of::<Option<C>>("value"),
            Part::of::<S>("trigger"),
            Part::of::<Vec<(bool, Timestamp)>>("timers"),
            Part::of::<Option<Timestamp>>("last_record"),
        ]
    }
    fn covers(&self, section: &str) -> bool {
        section == SECTION || STATES.contains(&section)
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        for entry in state.table::<Saved<K, C, S>>(SECTION) {
            let (subtask, _, (key, _, windows)) = entry?;
            let hash = hash_of(&key);
            for (window, content, trigger, timers, last, _) in windows {
                rows.row(subtask, Some(hash), &[&key, &window, &content, &trigger, &timers, &last])?;
            }
        }
        Ok(())
    }
    fn import(&self, _notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        let (mut of_keys, mut of_windows) = (into.take_keyed(IMPORTED[0]), into.take_keyed(IMPORTED[1]));
        let (mut at, mut windows) = (None, Windows::default());
        let mut put = |at: &mut Option<(usize, Vec<u8>)>, windows: &mut Windows, into: &mut ImportedState| {
            let Some(at) = at.take() else { return Ok(()) };
            let states = of_keys.remove(&at).unwrap_or_default();
            std::mem::take(windows).put(&at, states, into)
        };
        while let Some(subtask) = rows.next()? {
            let key = rows.part(0)?;
            if at.as_ref().is_none_or(|at: &(usize, Vec<u8>)| at.0 != subtask || at.1 != key) {
                put(&mut at, &mut windows, into)?;
                at = Some((subtask, key.to_vec()));
            }
            for part in 1..6 {
                windows.bytes.extend_from_slice(rows.part(part)?);
            }
            let own = of_windows.remove(&(subtask, [key, rows.part(1)?].concat()));
            codec::encode(&Bytes(own.unwrap_or_default()), &mut windows.bytes)?;
            windows.count += 1;
        }
        put(&mut at, &mut windows, into)?;
        // Keys that have state and no window.
        for (at, states) in of_keys {
            Windows::default().put(&at, states, into)?;
        }
        match of_windows.is_empty() {
            true => Ok(()),
            false => Err(Error::Codec("there is state of windows that are not there".into())),
        }
    }
}
