//! Encoder: values as bytes, in the format of postcard.

use super::varint;
use postcard::{Error, Result};
use serde::{Serialize, ser};

/// Bytes up to which text is copied byte by byte: a call to copy memory costs more.
const SHORT_BYTES: usize = 10;

/// Appends values.
pub(super) struct Encoder<'a>(pub(super) &'a mut Vec<u8>);

impl Encoder<'_> {
    #[inline(always)]
    fn number(&mut self, number: u64) -> Result<()> {
        varint::put(number, self.0);
        Ok(())
    }

    /// The sign goes into the lowest bit, so that numbers near zero are short.
    #[inline(always)]
    fn signed(&mut self, number: i64) -> Result<()> {
        self.number((number << 1 ^ number >> 63) as u64)
    }

    #[inline(always)]
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.number(bytes.len() as u64)?;
        if bytes.len() <= SHORT_BYTES {
            self.0.reserve(SHORT_BYTES);
            bytes.iter().for_each(|&byte| self.0.push(byte));
        } else {
            self.0.extend_from_slice(bytes);
        }
        Ok(())
    }

    #[inline(always)]
    fn byte(&mut self, byte: u8) -> Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn length(&mut self, len: Option<usize>) -> Result<()> {
        self.number(len.ok_or(Error::SerializeSeqLengthUnknown)? as u64)
    }

    /// Numbers of 128 bits are rare: postcard writes them.
    fn number_128<T: Serialize>(&mut self, number: &T) -> Result<()> {
        self.0.extend_from_slice(postcard::to_slice(number, &mut [0; 20])?);
        Ok(())
    }
}

macro_rules! numbers {
    ($($method:ident($type:ty) by $write:ident as $wide:ty;)*) => {$(
        #[inline(always)]
        fn $method(self, number: $type) -> Result<()> {
            self.$write(<$wide>::from(number))
        }
    )*};
}

impl ser::Serializer for &mut Encoder<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    numbers! {
        serialize_u16(u16) by number as u64;
        serialize_u32(u32) by number as u64;
        serialize_u64(u64) by number as u64;
        serialize_i16(i16) by signed as i64;
        serialize_i32(i32) by signed as i64;
        serialize_i64(i64) by signed as i64;
        serialize_bool(bool) by byte as u8;
        serialize_u8(u8) by byte as u8;
    }

    fn is_human_readable(&self) -> bool {
        false
    }
    #[inline]
    fn serialize_i8(self, number: i8) -> Result<()> {
        self.byte(number as u8)
    }
    fn serialize_i128(self, number: i128) -> Result<()> {
        self.number_128(&number)
    }
    fn serialize_u128(self, number: u128) -> Result<()> {
        self.number_128(&number)
    }
    #[inline]
    fn serialize_f32(self, number: f32) -> Result<()> {
        self.0.extend_from_slice(&number.to_le_bytes());
        Ok(())
    }
    #[inline]
    fn serialize_f64(self, number: f64) -> Result<()> {
        self.0.extend_from_slice(&number.to_le_bytes());
        Ok(())
    }
    fn serialize_char(self, char: char) -> Result<()> {
        self.bytes(char.encode_utf8(&mut [0; 4]).as_bytes())
    }
    #[inline]
    fn serialize_str(self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }
    #[inline]
    fn serialize_bytes(self, bytes: &[u8]) -> Result<()> {
        self.bytes(bytes)
    }
    #[inline]
    fn serialize_none(self) -> Result<()> {
        self.byte(0)
    }
    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        self.byte(1)?;
        value.serialize(self)
    }
    #[inline]
    fn serialize_unit(self) -> Result<()> {
        Ok(())
    }
    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        Ok(())
    }
    #[inline]
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<()> {
        self.number(index.into())
    }
    #[inline(always)]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }
    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<()> {
        self.number(index.into())?;
        value.serialize(self)
    }
    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self> {
        self.length(len)?;
        Ok(self)
    }
    #[inline(always)]
    fn serialize_tuple(self, _: usize) -> Result<Self> {
        Ok(self)
    }
    #[inline(always)]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self> {
        Ok(self)
    }
    #[inline]
    fn serialize_tuple_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Self> {
        self.number(index.into())?;
        Ok(self)
    }
    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self> {
        self.length(len)?;
        Ok(self)
    }
    #[inline(always)]
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self> {
        Ok(self)
    }
    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self> {
        self.number(index.into())?;
        Ok(self)
    }
}

macro_rules! parts {
    ($($trait:ident: $method:ident($($name:ty)?);)*) => {$(
        impl ser::$trait for &mut Encoder<'_> {
            type Ok = ();
            type Error = Error;
            #[inline(always)]
            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $name,)? value: &T) -> Result<()> {
                value.serialize(&mut **self)
            }
            #[inline(always)]
            fn end(self) -> Result<()> {
                Ok(())
            }
        }
    )*};
}

parts! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeStruct: serialize_field(&'static str);
    SerializeStructVariant: serialize_field(&'static str);
}

impl ser::SerializeMap for &mut Encoder<'_> {
    type Ok = ();
    type Error = Error;
    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        key.serialize(&mut **self)
    }
    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        value.serialize(&mut **self)
    }
    #[inline]
    fn end(self) -> Result<()> {
        Ok(())
    }
}
