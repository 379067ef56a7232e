//! Switches of a running machine.

use std::collections::BTreeMap;

use thiserror::Error;

/// A switch that was not set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SwitchError {
    /// There is no such switch.
    #[error("There is no switch {name:?}, only {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The value is not one of the switch's.
    #[error("{0}")]
    Value(String),
}

type Setter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Switches by name.
#[derive(Default)]
pub struct Switches(BTreeMap<&'static str, Setter>);

impl Switches {
    /// Adds a switch; `set` takes a value or says why it does not.
    pub fn add(
        &mut self,
        name: &'static str,
        set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
    ) {
        self.0.insert(name, Box::new(set));
    }

    /// Sets a switch.
    pub fn set(&self, name: &str, value: &str) -> Result<(), SwitchError> {
        let Some(set) = self.0.get(name) else {
            let known: Vec<_> = self.0.keys().copied().collect();
            return Err(SwitchError::Unknown {
                name: name.to_owned(),
                known: known.join(", "),
            });
        };
        set(value).map_err(SwitchError::Value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn known_switch_takes_its_values_only() {
        let lazy = Arc::new(AtomicBool::new(false));
        let state = Arc::clone(&lazy);
        let mut switches = Switches::default();
        switches.add("lazy", move |value| {
            state.store(
                value.parse().map_err(|_| "true or false")?,
                Ordering::Relaxed,
            );
            Ok(())
        });

        assert_eq!(switches.set("lazy", "true"), Ok(()));
        assert!(lazy.load(Ordering::Relaxed));
        assert_eq!(
            switches.set("lazy", "maybe"),
            Err(SwitchError::Value("true or false".into()))
        );
        assert!(matches!(
            switches.set("eager", "true"),
            Err(SwitchError::Unknown { .. })
        ));
    }
}
