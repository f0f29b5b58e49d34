//! One decoder for each type, whatever is decoded.
//!
//! A type's decoder is generated anew for each format it is read from, and the API's types are many and large: three formats were two
//! thirds of the executable. Here the format is behind a trait object, so that each type has one decoder.
//!
//! Never: looks at what is decoded.

use serde::Deserializer;
use serde::de::DeserializeOwned;

/// Decodes from any format.
pub fn erased<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, erased_serde::Error> {
    one::<T>(&mut <dyn erased_serde::Deserializer<'_>>::erase(deserializer))
}

/// Decodes JSON, all of it.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let object = one::<T>(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut deserializer)).map_err(serde::de::Error::custom)?;
    deserializer.end()?;
    Ok(object)
}

/// The only place that a decoder of `T` is made in.
fn one<T: DeserializeOwned>(deserializer: &mut dyn erased_serde::Deserializer<'_>) -> Result<T, erased_serde::Error> {
    erased_serde::deserialize(deserializer)
}
