//! How many MACs an endpoint may hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many MACs may be behind an endpoint's switch port: `any`, or a number from 1 on. The endpoint's
/// own is one of them; the others are learned from what it sends. In JSON a number or `"any"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Form", try_from = "Form")]
pub enum Macs {
    /// As many as a bridge needs: [`Macs::ANY`].
    Any,
    /// So many, from 1 to [`Macs::MOST`].
    UpTo(u32),
}

/// What is written in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Number(u32),
    Word(String),
}

impl Macs {
    /// The MACs that `any` allows.
    pub const ANY: u32 = 1_024;
    /// The largest number that can be asked for.
    pub const MOST: u32 = 8_192;

    /// MACs beyond the endpoint's own.
    pub const fn others(self) -> u32 {
        match self {
            Self::Any => Self::ANY - 1,
            Self::UpTo(n) => n.saturating_sub(1),
        }
    }
}

impl Default for Macs {
    /// Its own, and no other.
    fn default() -> Self {
        Self::UpTo(1)
    }
}

impl fmt::Display for Macs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::UpTo(n) => n.fmt(f),
        }
    }
}

/// A number of MACs that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number of MACs is from 1 to {}, or \"any\"", Macs::MOST)]
pub struct MacsError;

impl TryFrom<u32> for Macs {
    type Error = MacsError;

    fn try_from(n: u32) -> Result<Self, MacsError> {
        if (1..=Self::MOST).contains(&n) {
            Ok(Self::UpTo(n))
        } else {
            Err(MacsError)
        }
    }
}

impl FromStr for Macs {
    type Err = MacsError;

    fn from_str(text: &str) -> Result<Self, MacsError> {
        if text == "any" {
            return Ok(Self::Any);
        }
        text.parse::<u32>().map_err(|_| MacsError)?.try_into()
    }
}

impl TryFrom<Form> for Macs {
    type Error = MacsError;

    fn try_from(form: Form) -> Result<Self, MacsError> {
        match form {
            Form::Number(n) => n.try_into(),
            Form::Word(word) if word == "any" => Ok(Self::Any),
            Form::Word(_) => Err(MacsError),
        }
    }
}

impl From<Macs> for Form {
    fn from(macs: Macs) -> Self {
        match macs {
            Macs::Any => Self::Word("any".into()),
            Macs::UpTo(n) => Self::Number(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_any_and_nothing_else() {
        for (text, macs, json) in [
            ("1", Macs::default(), "1"),
            ("8192", Macs::UpTo(8_192), "8192"),
            ("any", Macs::Any, "\"any\""),
        ] {
            assert_eq!(text.parse(), Ok(macs));
            assert_eq!(macs.to_string(), text);
            assert_eq!(serde_json::to_string(&macs).unwrap(), json);
            assert_eq!(serde_json::from_str::<Macs>(json).unwrap(), macs);
        }
        for bad in ["", "0", "8193", "-1", "all", "Any", "1.5"] {
            assert_eq!(bad.parse::<Macs>(), Err(MacsError), "{bad}");
        }
        for bad in ["0", "8193", "\"7\"", "\"all\"", "null", "-1"] {
            assert!(serde_json::from_str::<Macs>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn its_own_is_one_of_them() {
        assert_eq!(Macs::default().others(), 0);
        assert_eq!(Macs::UpTo(5).others(), 4);
        assert_eq!(Macs::Any.others(), 1_023);
    }
}
