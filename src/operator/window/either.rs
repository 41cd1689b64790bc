//! Either: a record of one of two streams, so that both can go through one operator.

use serde::{Deserialize, Serialize};

/// A record of the left stream or of the right one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Either<L, R> {
    /// Of the left one.
    Left(L),
    /// Of the right one.
    Right(R),
}
