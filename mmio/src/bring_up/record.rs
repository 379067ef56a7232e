//! A record: what it holds, and its file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::rules::{Part, rule};
use crate::RegId;
use crate::regs::falcon::{self, offset};
use crate::regs::pmc;

/// The version of files.
const VERSION: u32 = 1;
/// Most stores of a list; nouveau makes some thousand.
const MOST_STORES: usize = 1 << 16;

/// A store to a register of BAR0, or what a load of it says. In files: `0x400100 0x00000001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Store {
    /// The register's offset.
    pub register: u32,
    /// Its value.
    pub value: u32,
}

impl From<Store> for String {
    fn from(store: Store) -> Self {
        format!("{:#08x} {:#010x}", store.register, store.value)
    }
}

impl TryFrom<String> for Store {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        let store = text.split_once(' ').and_then(|(register, value)| {
            Some(Self {
                register: number(register)?,
                value: number(value)?,
            })
        });
        store.ok_or_else(|| format!("{text:?} is no store, as in 0x400100 0x00000001"))
    }
}

/// What a driver stored to bring a card's engines up, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// What is known of the driver.
    pub driver: String,
    /// The card: registers of [`IDENTITY`](super::rules::IDENTITY).
    pub card: Vec<Store>,
    /// What engines share.
    pub shared: Vec<Store>,
    /// PGRAPH, until the context switcher is started.
    pub graphics: Vec<Store>,
    /// A copy engine, until it is started, in registers of the first one.
    pub copy: Vec<Store>,
    /// PGRAPH, once the context switcher is ready.
    pub channel: Vec<Store>,
    /// The first context, once its channel is current.
    pub context: Vec<Store>,
}

/// Why something is no record, or none from which a card can be brought up.
#[derive(Debug, Error)]
pub enum RecordError {
    /// It is no record's file.
    #[error("This is no record of a bring-up")]
    Syntax(#[from] serde_json::Error),
    /// It is another version's.
    #[error("A record of version {0}: version {VERSION} is known")]
    Version(u32),
    /// It is too long.
    #[error("The record is too long")]
    Long,
    /// A store that has nothing to do with what it is to bring up.
    #[error("{:?} is not stored to for {part}", RegId(*register))]
    Foreign {
        /// The register.
        register: u32,
        /// What its list brings up.
        part: Part,
    },
    /// Something is missing.
    #[error("The record has nothing of {0}")]
    Lacks(Lack),
}

/// What a record may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// What tells the card.
    Card,
    /// Firmware of FECS or GPCCS.
    ContextSwitcher,
    /// Firmware of a copy engine.
    CopyEngine,
    /// The first context.
    Context,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Card => "the card",
            Self::ContextSwitcher => "the context switcher's firmware",
            Self::CopyEngine => "a copy engine's firmware",
            Self::Context => "the first context",
        })
    }
}

impl Record {
    /// Most bytes of a file.
    pub const MOST_BYTES: usize = 16 << 20;

    /// The same, by `driver`.
    pub(super) fn by(self, driver: String) -> Self {
        Self {
            version: VERSION,
            driver,
            ..self
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It is not complete, or holds what nobody stores to bring a card up.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        /// What files of any version have.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        if bytes.len() > Self::MOST_BYTES {
            return Err(RecordError::Long);
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let record: Self = serde_json::from_slice(bytes)?;
        record.check()?;
        Ok(record)
    }

    /// The file's text.
    ///
    /// # Errors
    ///
    /// See [`parse`](Self::parse), which reads what this wrote.
    pub fn text(&self) -> Result<String, RecordError> {
        self.check()?;
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The lists, and what each brings up.
    fn lists(&self) -> [(&[Store], Part); 5] {
        [
            (&self.shared, Part::Shared),
            (&self.graphics, Part::Graphics),
            (&self.copy, Part::Copy),
            (&self.channel, Part::Graphics),
            (&self.context, Part::Graphics),
        ]
    }

    fn check(&self) -> Result<(), RecordError> {
        for (stores, part) in self.lists() {
            if stores.len() > MOST_STORES {
                return Err(RecordError::Long);
            }
            let belongs = |store: &Store| {
                let rule = rule(store.register).filter(|_| store.register.is_multiple_of(4));
                rule.and_then(|rule| rule.part) == Some(part)
            };
            if let Some(&Store { register, .. }) = stores.iter().find(|store| !belongs(store)) {
                return Err(RecordError::Foreign { register, part });
            }
        }
        let has = |stores: &[Store], register| stores.iter().any(|s| s.register == register);
        let code = |stores, base| has(stores, base + offset::IMEM_DATA);
        let lacks = [
            (has(&self.card, pmc::BOOT_0.0), Lack::Card),
            (code(&self.graphics, falcon::FECS), Lack::ContextSwitcher),
            (code(&self.graphics, falcon::GPCCS), Lack::ContextSwitcher),
            (code(&self.copy, falcon::CE0), Lack::CopyEngine),
            (!self.context.is_empty(), Lack::Context),
        ];
        match lacks.into_iter().find(|(there, _)| !there) {
            Some((_, lack)) => Err(RecordError::Lacks(lack)),
            None => Ok(()),
        }
    }

    /// Appends to a list; nothing happens once it is as long as it may be.
    pub(super) fn push(stores: &mut Vec<Store>, register: u32, value: u32) {
        // One more than may be is too long, as it should be found to be.
        if stores.len() <= MOST_STORES {
            stores.push(Store { register, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::regs::{pbus, pgraph};

    fn stores(stores: &[(u32, u32)]) -> Vec<Store> {
        let stores = stores.iter();
        stores
            .map(|&(register, value)| Store { register, value })
            .collect()
    }

    fn record() -> Record {
        let code = |base| (base + offset::IMEM_DATA, 7);
        Record {
            card: stores(&[(pmc::BOOT_0.0, 0x0c00_00a3)]),
            shared: stores(&[(0x17e8d8, 6)]),
            graphics: stores(&[code(falcon::FECS), code(falcon::GPCCS)]),
            copy: stores(&[code(falcon::CE0)]),
            context: stores(&[(pgraph::FE_MTHD.0, u32::MAX)]),
            ..Record::default().by("a driver".into())
        }
    }

    fn refusal(change: impl FnOnce(&mut Record)) -> String {
        let mut record = record();
        change(&mut record);
        let text = serde_json::to_string(&record).unwrap();
        Record::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_gives_back_the_record() {
        let text = record().text().unwrap();
        assert!(text.contains("\"0x409184 0x00000007\""), "{text}");
        assert_eq!(Record::parse(text.as_bytes()).unwrap(), record());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = stores(&[(pgraph::FE_MTHD.0, 0)]).repeat(MOST_STORES + 1);
        for (error, words) in [
            (refusal(|record| record.version = 2), "version 2"),
            (refusal(|record| record.context = long), "too long"),
            (refusal(|record| record.copy.clear()), "copy engine"),
            (
                refusal(|record| record.graphics = stores(&[(pbus::BAR1_BLOCK.0, 1)])),
                "PBUS.BAR1_BLOCK is not stored to for PGRAPH",
            ),
            (
                refusal(|record| record.copy = stores(&[(0x17e8d8, 1)])),
                "a copy engine",
            ),
            (
                refusal(|record| record.shared = stores(&[(0x17e8d9, 1)])),
                "what engines share",
            ),
        ] {
            assert!(error.contains(words), "{error}");
        }
        for text in [
            "",
            "{}",
            "[1]",
            "{\"version\": 1}",
            "{\"version\": 1, \"x\": 2}",
        ] {
            let error = Record::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, RecordError::Syntax(_)), "{text}: {error}");
        }
        assert!("0x400100 1".parse::<Store>().is_err());
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_only_registers_of_rules_are_stored_to(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = record().text().unwrap().into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                // Mostly what could be meant.
                bytes[at] = match byte {
                    0..128 => b"0123456789abcdefx \",:[]{}"[usize::from(byte) % 25],
                    byte => byte,
                };
            }
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                let Ok(record) = Record::parse(bytes) else { continue };
                for (list, part) in record.lists() {
                    prop_assert!(list.len() <= MOST_STORES);
                    for store in list {
                        prop_assert_eq!(rule(store.register).and_then(|rule| rule.part), Some(part));
                    }
                }
            }
        }
    }
}
