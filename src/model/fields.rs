//! The fields of a `config.json`, each checked as it is read.

use serde_json::{Map, Value};

/// The largest size that a field may state: no product of three of them overflows.
const MOST: u64 = 1 << 20;

/// A JSON object. Methods that take a field return its value, or a sentence that names the field and says what
/// is wrong with it. A field that is `null` counts as absent.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub fn parse(text: &[u8]) -> serde_json::Result<Fields> {
        serde_json::from_slice(text).map(Fields)
    }

    fn get(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    pub fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// A whole number from 1 to [`MOST`].
    pub fn size(&self, field: &str) -> Result<usize, String> {
        let value = self.get(field).ok_or_else(|| format!("`{field}` is missing"))?;
        let size = value.as_u64().filter(|size| (1..=MOST).contains(size));
        let size = size.and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| format!("{field} = {value}; it must be a whole number from 1 to {MOST}"))
    }

    pub fn size_or(&self, field: &str, absent: usize) -> Result<usize, String> {
        if self.has(field) {
            self.size(field)
        } else {
            Ok(absent)
        }
    }

    /// A whole number from 0 to [`MOST`].
    pub fn index_or(&self, field: &str, absent: usize) -> Result<usize, String> {
        let Some(value) = self.get(field) else { return Ok(absent) };
        let index = value.as_u64().filter(|&index| index <= MOST);
        index.map(|index| index as usize).ok_or_else(|| format!("{field} = {value}; it must be an index"))
    }

    pub fn positive_or(&self, field: &str, absent: f64) -> Result<f64, String> {
        let Some(value) = self.get(field) else { return Ok(absent) };
        let number = value.as_f64().filter(|x| x.is_finite() && *x > 0.0);
        number.ok_or_else(|| format!("{field} = {value}; it must be a number above zero"))
    }

    /// Absent is false.
    pub fn flag(&self, field: &str) -> Result<bool, String> {
        let Some(value) = self.get(field) else { return Ok(false) };
        value.as_bool().ok_or_else(|| format!("{field} = {value}; it must be true or false"))
    }

    /// An object inside of this one; absent is empty.
    pub fn object(&self, field: &str) -> Result<Fields, String> {
        match self.get(field) {
            None => Ok(Fields(Map::new())),
            Some(Value::Object(fields)) => Ok(Fields(fields.clone())),
            Some(other) => Err(format!("{field} = {other}; it must be an object")),
        }
    }

    /// A list of pairs of sizes, at least one. `names` is for the error: `[channels, taps]`.
    pub fn pairs(&self, field: &str, names: &str) -> Result<Vec<[usize; 2]>, String> {
        let is_size = |&n: &usize| (1..=MOST).contains(&(n as u64));
        let pairs: Option<Vec<[usize; 2]>> =
            self.get(field).and_then(|pairs| serde_json::from_value(pairs.clone()).ok());
        let pairs = pairs.filter(|pairs| !pairs.is_empty() && pairs.iter().flatten().all(is_size));
        pairs.ok_or_else(|| format!("`{field}` must be a list of {names}"))
    }

    /// One of the names that are implemented.
    pub fn one_of<'a>(&self, field: &str, implemented: &[&'a str]) -> Result<&'a str, String> {
        let found = self.get(field).ok_or_else(|| format!("`{field}` is missing"))?;
        let named = implemented.iter().copied().find(|name| found.as_str() == Some(name));
        named.ok_or_else(|| format!("{field} = {found}; only {implemented:?} can be read here"))
    }

    /// For a field of which only one value is implemented; it may be absent.
    pub fn only(&self, field: &str, implemented: Value) -> Result<(), String> {
        match self.get(field) {
            Some(found) if *found != implemented => {
                Err(format!("{field} = {found} is not implemented, only {implemented} is"))
            }
            _ => Ok(()),
        }
    }
}
