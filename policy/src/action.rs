//! What can be done to a bucket or an object, and sets of it.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One thing that can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Action {
    /// See bytes and metadata of an object.
    Read = 0,
    /// Make or change objects and directories.
    Write = 1,
    /// See names.
    List = 2,
    /// Remove objects and directories.
    Delete = 3,
    /// Grant others what one may do oneself.
    Share = 4,
}

impl Action {
    /// All of them, in the order they are written.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::List, Self::Delete, Self::Share];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Share => "share",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown action: use read, write, list, delete or share")]
pub struct ActionError;

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, ActionError> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or(ActionError)
    }
}

/// A set of actions.
///
/// As text and in serialised form it is exactly the actions it holds (`read,list`; `["read","list"]`). The
/// words people use on a command line mean more than one action: see [`ActionSet::from_rights`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionSet(u8);

impl ActionSet {
    /// Nothing.
    pub const EMPTY: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(0b1_1111);
    /// What the right `read` means: see names and bytes.
    pub const READ: Self = Self(Action::Read.bit() | Action::List.bit());
    /// What the right `write` means: all that can be done to data.
    pub const WRITE: Self = Self(Self::READ.0 | Action::Write.bit() | Action::Delete.bit());

    /// Whether `action` is in the set.
    pub const fn contains(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// Whether the set holds nothing.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether everything in this set is also in `other`.
    pub const fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The set with `action` added.
    #[must_use]
    pub const fn with(self, action: Action) -> Self {
        Self(self.0 | action.bit())
    }

    /// The set with `action` left out.
    #[must_use]
    pub const fn without(self, action: Action) -> Self {
        Self(self.0 & !action.bit())
    }

    /// The actions in the set, in the order of [`Action::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contains(*action))
    }

    /// Reads the rights of a command line, separated by commas. `read` lets see names and bytes, `write`
    /// lets do everything to data; `list` and `delete` mean themselves alone.
    ///
    /// # Errors
    /// [`ActionError`] when a word is none of these. Sharing is no right to ask for: it comes with a depth.
    pub fn from_rights(text: &str) -> Result<Self, ActionError> {
        text.split(',').try_fold(Self::EMPTY, |set, word| match word.trim() {
            "read" => Ok(set | Self::READ),
            "write" => Ok(set | Self::WRITE),
            "list" => Ok(set.with(Action::List)),
            "delete" => Ok(set.with(Action::Delete)),
            _ => Err(ActionError),
        })
    }
}

impl BitOr for ActionSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for ActionSet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for ActionSet {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl From<Action> for ActionSet {
    fn from(action: Action) -> Self {
        Self(action.bit())
    }
}

impl FromIterator<Action> for ActionSet {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        actions.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for ActionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, action) in self.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{}", action.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ActionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActionSet({self})")
    }
}

impl FromStr for ActionSet {
    type Err = ActionError;

    /// Exactly the actions named, separated by commas; the inverse of `Display`.
    fn from_str(text: &str) -> Result<Self, ActionError> {
        if text.is_empty() {
            return Ok(Self::EMPTY);
        }
        text.split(',').map(|word| word.trim().parse::<Action>()).collect()
    }
}

impl Serialize for ActionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut words = serializer.serialize_seq(Some(self.iter().count()))?;
        for action in self.iter() {
            words.serialize_element(action.as_str())?;
        }
        words.end()
    }
}

impl<'de> Deserialize<'de> for ActionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> de::Visitor<'de> for Words {
            type Value = ActionSet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of actions")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut words: A) -> Result<ActionSet, A::Error> {
                let mut set = ActionSet::EMPTY;
                while let Some(action) = words.next_element::<Action>()? {
                    // A repeated action is never written, so a list that has one was not written by us.
                    if set.contains(action) {
                        return Err(de::Error::custom("an action is named twice"));
                    }
                    set = set.with(action);
                }
                Ok(set)
            }
        }

        deserializer.deserialize_seq(Words)
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;

        impl de::Visitor<'_> for Word {
            type Value = Action;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an action")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Action, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Word)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn text_and_json_name_exactly_what_is_held() {
        for bits in 0..=ActionSet::ALL.0 {
            let set = ActionSet(bits);
            assert_eq!(set.to_string().parse::<ActionSet>().unwrap(), set);
            let json = serde_json::to_string(&set).unwrap();
            assert_eq!(serde_json::from_str::<ActionSet>(&json).unwrap(), set);
        }
        assert_eq!(ActionSet::READ.to_string(), "read,list");
        assert_eq!(serde_json::to_string(&ActionSet::READ).unwrap(), r#"["read","list"]"#);
    }

    #[test]
    fn rights_of_the_command_line() {
        let rights = |text| ActionSet::from_rights(text).unwrap().to_string();
        assert_eq!(rights("read"), "read,list");
        assert_eq!(rights("write"), "read,write,list,delete");
        assert_eq!(rights("list"), "list");
        assert_eq!(rights("list, delete"), "list,delete");
        for bad in ["", "admin", "share", "READ", "read,,list"] {
            assert_eq!(ActionSet::from_rights(bad), Err(ActionError), "{bad:?}");
        }
    }

    #[test]
    fn strange_lists_are_refused() {
        for bad in [r#""read""#, r#"["read","read"]"#, r#"["admin"]"#, "[1]", "null", "31"] {
            assert!(serde_json::from_str::<ActionSet>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sets_compare() {
        assert!(ActionSet::READ.is_subset_of(ActionSet::WRITE));
        assert!(!ActionSet::WRITE.is_subset_of(ActionSet::READ));
        assert!(ActionSet::EMPTY.is_subset_of(ActionSet::EMPTY));
        assert_eq!(Action::ALL.into_iter().collect::<ActionSet>(), ActionSet::ALL);
    }
}
