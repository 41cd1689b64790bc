//! S10: state with a serializer of its own.

use super::*;
use crate::base::error::BoxError;

/// Numbers, from version 2 on in tenths.
struct Tenths(u32);

impl StateSerializer<i32> for Tenths {
    fn written(&self) -> SerializerSnapshot {
        SerializerSnapshot { name: "tenths".into(), version: self.0, bytes: vec![7] }
    }
    fn compatibility(&self, written: &SerializerSnapshot) -> Compatibility {
        match written {
            SerializerSnapshot { name, .. } if name != "tenths" => {
                Compatibility::Incompatible("alien".into())
            }
            SerializerSnapshot { version, .. } if *version == self.0 => Compatibility::AsIs,
            SerializerSnapshot { version, .. } if *version < self.0 => Compatibility::Migrate,
            _ => Compatibility::Incompatible("it is newer than this program".into()),
        }
    }
    fn serialize(&self, value: &i32, into: &mut Vec<u8>) -> Result<(), BoxError> {
        if *value < 0 {
            return Err("below zero".into());
        }
        into.extend(value.to_le_bytes());
        Ok(())
    }
    fn deserialize(&self, written: &SerializerSnapshot, from: &[u8]) -> Result<i32, BoxError> {
        assert_eq!(written.bytes, [7]);
        let value = i32::from_le_bytes(from.try_into()?);
        Ok(if written.version < self.0 { value * 10 } else { value })
    }
}

fn declared(serializer: Option<Tenths>) -> (KeyedScope, ValueState<i32>) {
    let mut states = States::default();
    let value = match serializer {
        Some(serializer) => states.value_with("n", serializer),
        None => states.value("n"),
    };
    (KeyedScope::new(states), value)
}

/// What is read of what was written; an error if it cannot be.
fn restored(from: Option<Tenths>, to: Option<Tenths>) -> Result<i32, Error> {
    let (mut ctx, value) = declared(from);
    value.set(&mut ctx, 300);
    let bytes = stored(ctx.states(), 0);
    let (mut other, read) = declared(to);
    let reader = other.states().reader(ctx.states().written())?;
    other.states_mut().decode_slot(0, &reader, &bytes)?;
    Ok(*read.get(&other).unwrap())
}

/// S10: a compatible serializer reads what is there, an older format is migrated, an incompatible one fails loudly.
#[test]
fn s10_compatible_migrated_incompatible() {
    assert_eq!(restored(Some(Tenths(1)), Some(Tenths(1))).unwrap(), 300);
    assert_eq!(restored(Some(Tenths(1)), Some(Tenths(2))).unwrap(), 3_000);
    assert_eq!(restored(None, Some(Tenths(2))).unwrap(), 300, "what the engine wrote is read by the engine");
    let (kind, message) = error_of(restored(Some(Tenths(2)), Some(Tenths(1))));
    assert!(kind == ErrorKind::User && message.contains("'n'") && message.contains("newer"), "{message}");
    let (_, message) = error_of(restored(Some(Tenths(2)), None));
    assert!(message.contains("'n'") && message.contains("'tenths', version 2"), "{message}");
}

/// S10: what a serializer cannot write or read is an error that names the state.
#[test]
fn s10_errors_of_a_serializer_name_the_state() {
    let (mut ctx, value) = declared(Some(Tenths(1)));
    value.set(&mut ctx, -1);
    let (kind, message) = error_of(ctx.states().encode_slot(0, None, &mut Vec::new()));
    assert!(kind == ErrorKind::User && message.contains("state 'n' cannot be written: below"), "{message}");
    let reader = ctx.states().reader(ctx.states().written()).unwrap();
    let (_, message) = error_of(ctx.states_mut().decode_slot(0, &reader, &[0, 2, 1, 1]));
    assert!(message.contains("state 'n' cannot be restored"), "{message}");
}
