//! Records at the limit and above it, in whole jobs. In tests the limit is low: see [`ROW_BYTES_MAX`].

use crate::api::Environment;
use crate::base::config::ExecutionMode;
use crate::base::restart::RestartStrategy;
use crate::services::shuffle::ROW_BYTES_MAX;

/// What a string takes beside its bytes: its length.
const LENGTH_BYTES: usize = 4;

/// Runs a record that takes so many bytes, its key among them if there is one, through an edge. The lengths that came out.
fn through(mode: ExecutionMode, row_bytes: usize, keyed: bool) -> crate::Result<Vec<usize>> {
    let env = Environment::new().execution_mode(mode).parallelism(1).restart_strategy(RestartStrategy::None);
    let bytes = row_bytes - LENGTH_BYTES - usize::from(keyed);
    let records = env.from_iter([1, bytes]).map(|bytes| "x".repeat(bytes)).name("makes them");
    let lengths = match keyed {
        true => records.key_by(|_| 7u8).reduce(|a, b| *a = b),
        false => records.rebalance().filter(|record| record.len() > 1),
    };
    lengths.map(|record| record.len()).name("takes them").execute_and_collect("limit")?.into_vec()
}

/// T15: a record of the limit passes; one byte more is an error that says how large it is and what to do. STREAMING hands
/// records over in memory and has no limit.
#[test]
fn t15_a_record_above_the_limit_is_an_error() {
    for keyed in [true, false] {
        let length = ROW_BYTES_MAX - LENGTH_BYTES - usize::from(keyed);
        assert_eq!(through(ExecutionMode::Batch, ROW_BYTES_MAX, keyed).unwrap(), [length], "keyed: {keyed}");
        let error = through(ExecutionMode::Batch, ROW_BYTES_MAX + 1, keyed).unwrap_err();
        let text = error.to_string();
        let expected = format!("a record takes {} bytes with its key", ROW_BYTES_MAX + 1);
        assert!(text.contains(&expected) && text.contains("split it"), "keyed: {keyed}: {text}");
        assert!(error.operator().is_some() && error.kind() != crate::ErrorKind::Internal, "{error:?}");
        let streamed = through(ExecutionMode::Streaming, ROW_BYTES_MAX + 1, keyed).unwrap();
        assert_eq!(streamed.last(), Some(&(length + 1)), "keyed: {keyed}");
    }
}
