//! Tests of the general operator.
