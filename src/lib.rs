//! One dataflow program, run pipelined (streaming) or staged (batch), in one process.
//!
//! A program reads sources, applies operators and ends in sinks. It is written once, against typed streams; nothing
//! runs before `execute`, which takes the plan that was built and runs it in one of two ways:
//!
//! - **STREAMING**, pipelined: every operator is live at once, records flow in small batches, a result comes out
//!   for each record that changes it.
//! - **BATCH**, staged: the plan is cut at shuffles; each stage is sorted, kept in memory or spilled, and read by the
//!   next; each key has one final result.
//!
//! The mode is an option of the run (`--execution-mode batch`, `MAINSTEM_EXECUTION_MODE`, a file, or a call), never a
//! change of the program:
//!
//! ```
//! use mainstem::prelude::*;
//! use std::collections::BTreeMap;
//!
//! fn main() -> mainstem::Result<()> {
//!     for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
//!         let env = Environment::new().execution_mode(mode).parallelism(2);
//!         let counts = env
//!             .from_iter(["to be", "or not", "to be"].map(String::from))
//!             .flat_map(|line, out| words(&line).for_each(|word| out.emit(word.to_string())))
//!             .key_by(|word| word.clone())
//!             .count();
//!
//!         let mut counted = counts.execute_and_collect("word count")?.into_vec()?;
//!         counted.sort();
//!         // STREAMING tells every count on the way, BATCH the last one; of equal words the last is kept.
//!         let last: BTreeMap<String, u64> = counted.into_iter().collect();
//!         let expected = [("be", 2), ("not", 1), ("or", 1), ("to", 2)];
//!         assert_eq!(last, BTreeMap::from(expected.map(|(word, n)| (word.to_string(), n))));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Where to find what
//!
//! - Begin: [`Environment`](api::Environment), with [`EngineArgs`](api::args::EngineArgs) for a command line of your
//!   own. Most programs need no more than the [`prelude`].
//! - Streams: [`DataStream`](api::DataStream), and after `key_by` [`KeyedStream`](api::KeyedStream).
//! - Functions with state: [`KeyedProcessFunction`](operator::process::KeyedProcessFunction) and
//!   [`States`](semantics::state::States); without: [`ProcessFunction`](operator::process::ProcessFunction).
//! - Input and output: [`connectors::source`], [`connectors::sink`], and the traits
//!   [`Source`](connectors::source::Source) and [`Sink`](connectors::sink::Sink) for your own.
//! - What a job came to: [`JobResult`](api::result::JobResult), [`JobClient`](api::JobClient), and
//!   [accumulators](base::accumulator).
//! - Tests of your program: [`testing`]: operators driven step by step, watermarks and time under control, snapshots, one
//!   program in both modes.
//!
//! # What a record must be
//!
//! [`Data`]: `Clone + Send + Serialize + DeserializeOwned + 'static`, which a type of your own gets from
//! `#[derive(Clone, Serialize, Deserialize)]`. A key is [`Data`] with `Eq + Hash + Ord` ([`Key`]). Encoding is not
//! self-describing, so serde's `untagged`, `flatten` and `skip_serializing_if` do not come back; the
//! first records of each shuffle are checked for it.
//!
//! Timestamps are those that a source gives its records ([`Generate::timestamps`](connectors::source::Generate::timestamps)),
//! or those of [`assign_timestamps`](api::DataStream::assign_timestamps); operators pass them on.
//!
//! # What things cost
//!
//! - `map`, `filter`, `flat_map`: a dynamic call for each batch of up to 1,024 records, none for a record. Neighbours
//!   hand batches over in the same thread.
//! - `key_by` and the partitionings shuffle. STREAMING moves values between threads and encodes nothing but samples;
//!   BATCH encodes each record once, sorts, and reads it once.
//! - Folds (`reduce`, `count`, `sum`, ...) keep one accumulator for each key and fold before a shuffle in BATCH: prefer
//!   them to `process` where they can say the same.
//! - `process` with state keeps one entry for each key that holds any, in STREAMING for the life of the job, in BATCH for
//!   one key at a time.
//! - A stream that is used twice is copied for the second use: each record is cloned once more.
//!
//! # Layers
//!
//! Folders are layers, and dependencies point down only: [`api`] on [`executors`] and [`connectors`], these on [`plan`],
//! then [`operator`], [`semantics`], [`services`], [`text`] and [`base`] at the bottom; [`testing`] stands on [`api`].
//! Operators know no
//! threads, files or modes; both executors drive the same ones. The traits and types below `api` that are public serve
//! connectors and operators of your own; `ARCHITECTURE.md` tells the rest.

pub mod api;
pub mod base;
pub mod connectors;
pub mod executors;
pub mod operator;
pub mod plan;
pub mod prelude;
pub mod semantics;
pub mod services;
pub mod testing;
pub mod text;

pub use base::data::{Data, Key, State, Timestamp};
pub use base::error::{Error, ErrorKind, Result};
pub use base::fixed::FixedBytes;
pub use base::sort_key::SortKey;

/// The programs of the README compile, and run where they say so.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
