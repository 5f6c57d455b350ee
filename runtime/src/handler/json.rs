//! Strict JSON: a number that JSON cannot represent is an error.
//!
//! `serde_json` writes `null` for NaN and the infinities, which a client cannot distinguish from a missing number. It has
//! no option to reject them, and calls the same method of its `Formatter` for them as for `null`, so they are rejected
//! before they reach it.

use std::fmt::Display;
use std::io;

use podwork_protocol::RawValue;
use serde::Serialize;
use serde::ser::{self, Error as _, Serializer};

/// Writes `value` as JSON.
///
/// # Errors
/// Returns an error for NaN, an infinity, or a map whose keys are not strings. It names the path of the value.
pub(crate) fn to_raw_value<T: Serialize + ?Sized>(
    value: &T,
) -> Result<Box<RawValue>, serde_json::Error> {
    serde_json::value::to_raw_value(&StrictValue(value)).map_err(|error| located(value, error))
}

/// Adds the path to an error. Writes `value` a second time for that, so that values without errors, which are nearly all,
/// cost nothing.
fn located<T: Serialize + ?Sized>(value: &T, error: serde_json::Error) -> serde_json::Error {
    let mut nowhere = serde_json::Serializer::new(io::sink());
    let Err(located) = serde_path_to_error::serialize(value, Strict(&mut nowhere)) else {
        return error;
    };
    match located.path().to_string().as_str() {
        "." => error,
        path => serde_json::Error::custom(format_args!("{error} (at `{path}`)")),
    }
}

fn finite<E: ser::Error>(number: impl Display, is_finite: bool) -> Result<(), E> {
    if is_finite {
        Ok(())
    } else {
        Err(E::custom(format_args!("{number} is not a JSON number")))
    }
}

/// A value that is written through [`Strict`].
struct StrictValue<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> Serialize for StrictValue<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Strict(serializer))
    }
}

/// The serializer `S`, or one of its compounds, which rejects NaN and the infinities.
struct Strict<S>(S);

/// Forwards scalars unchanged.
macro_rules! forward {
    ($($method:ident($scalar:ty))*) => {$(
        fn $method(self, value: $scalar) -> Result<S::Ok, S::Error> {
            self.0.$method(value)
        }
    )*};
}

impl<S: Serializer> Serializer for Strict<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Strict<S::SerializeSeq>;
    type SerializeTuple = Strict<S::SerializeTuple>;
    type SerializeTupleStruct = Strict<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Strict<S::SerializeTupleVariant>;
    type SerializeMap = Strict<S::SerializeMap>;
    type SerializeStruct = Strict<S::SerializeStruct>;
    type SerializeStructVariant = Strict<S::SerializeStructVariant>;

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        finite(value, value.is_finite())?;
        self.0.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        finite(value, value.is_finite())?;
        self.0.serialize_f64(value)
    }

    forward! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_unit_struct(&'static str)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.0.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&StrictValue(value))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.0.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &StrictValue(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0
            .serialize_newtype_variant(name, index, variant, &StrictValue(value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.0.serialize_seq(len).map(Strict)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.0.serialize_tuple(len).map(Strict)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.0.serialize_tuple_struct(name, len).map(Strict)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.0
            .serialize_tuple_variant(name, index, variant, len)
            .map(Strict)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.0.serialize_map(len).map(Strict)
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.0.serialize_struct(name, len).map(Strict)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.0
            .serialize_struct_variant(name, index, variant, len)
            .map(Strict)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// Compounds of unnamed elements.
macro_rules! sequence {
    ($($compound:ident: $method:ident;)*) => {$(
        impl<C: ser::$compound> ser::$compound for Strict<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.0.$method(&StrictValue(value))
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.0.end()
            }
        }
    )*};
}

sequence! {
    SerializeSeq: serialize_element;
    SerializeTuple: serialize_element;
    SerializeTupleStruct: serialize_field;
    SerializeTupleVariant: serialize_field;
}

/// Compounds of named fields.
macro_rules! fields {
    ($($compound:ident)*) => {$(
        impl<C: ser::$compound> ser::$compound for Strict<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                self.0.serialize_field(name, &StrictValue(value))
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), C::Error> {
                self.0.skip_field(name)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.0.end()
            }
        }
    )*};
}

fields! { SerializeStruct SerializeStructVariant }

impl<C: ser::SerializeMap> ser::SerializeMap for Strict<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.0.serialize_key(&StrictValue(key))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.0.serialize_value(&StrictValue(value))
    }

    fn serialize_entry<K: Serialize + ?Sized, V: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &V,
    ) -> Result<(), C::Error> {
        self.0
            .serialize_entry(&StrictValue(key), &StrictValue(value))
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.0.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;

    fn text(value: impl Serialize) -> String {
        to_raw_value(&value).unwrap().get().to_owned()
    }

    fn refusal(value: impl Serialize) -> String {
        to_raw_value(&value).unwrap_err().to_string()
    }

    #[derive(Serialize)]
    enum Figure {
        Unit,
        Newtype(f32),
        Tuple(f64, bool),
        Struct { side: f64 },
    }

    #[derive(Serialize)]
    struct Newtype<T>(T);

    #[derive(Serialize)]
    struct Pair(u8, f64);

    #[derive(Serialize)]
    struct All {
        shapes: Vec<Figure>,
        pair: Pair,
        tuple: (i8, char),
        bytes: Newtype<Vec<u8>>,
        none: Option<f64>,
        some: Option<f64>,
        map: BTreeMap<u64, f64>,
        address: Ipv4Addr,
        unit: (),
        #[serde(flatten)]
        rest: BTreeMap<String, f32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        absent: Option<u8>,
    }

    fn all(number: f64) -> All {
        All {
            shapes: vec![
                Figure::Unit,
                Figure::Newtype(0.1),
                Figure::Tuple(1e300, true),
                Figure::Struct { side: number },
            ],
            pair: Pair(1, -0.0),
            tuple: (-1, 'é'),
            bytes: Newtype(vec![1, 2]),
            none: None,
            some: Some(0.5),
            map: BTreeMap::from([(7, 0.25)]),
            address: Ipv4Addr::LOCALHOST,
            unit: (),
            rest: BTreeMap::from([("more".to_owned(), 2.5)]),
            absent: None,
        }
    }

    #[test]
    fn valid_values_are_written_as_by_serde_json() {
        assert_eq!(
            text(all(1.5)),
            serde_json::to_string(&all(1.5)).unwrap(),
            "every kind of compound"
        );
        assert_eq!(text(i128::MIN), i128::MIN.to_string());
        assert_eq!(text(u128::MAX), u128::MAX.to_string());
        assert_eq!(text(0.1_f32), "0.1");
        assert_eq!(
            text(json!({"a": [null, 1.5, "x"]})),
            r#"{"a":[null,1.5,"x"]}"#
        );
    }

    #[test]
    fn raw_json_is_unchanged() {
        let raw = RawValue::from_string(r#"{ "a":  1.50 }"#.to_owned()).unwrap();
        assert_eq!(text(&raw), r#"{ "a":  1.50 }"#);
        assert_eq!(text([&raw]), r#"[{ "a":  1.50 }]"#);
    }

    #[test]
    fn non_finite_numbers_are_rejected_with_their_path() {
        assert_eq!(refusal(f64::NAN), "NaN is not a JSON number");
        assert_eq!(refusal(f32::NEG_INFINITY), "-inf is not a JSON number");
        assert_eq!(
            refusal(BTreeMap::from([("scores", vec![1.0, 2.0, f64::NAN])])),
            "NaN is not a JSON number (at `scores[2]`)"
        );
        assert_eq!(
            refusal(all(f64::NAN)),
            "NaN is not a JSON number (at `shapes[3].side`)"
        );
    }

    #[test]
    fn keys_that_are_not_strings_are_rejected() {
        assert_eq!(
            refusal(BTreeMap::from([(
                "a",
                BTreeMap::from([(vec![1], f64::NAN)])
            )])),
            "key must be a string (at `a`)"
        );
    }
}
