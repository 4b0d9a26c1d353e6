//! What analyses find out about a model's weights and need again: it stays with the model until others have pushed it out.

use crate::error::Result;
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// Findings that are kept at a time. The vocabulary has four views at most, a null three draws, a dictionary two ends.
const MOST: usize = 128;

/// Findings by name, those used last in front.
#[derive(Default)]
pub struct Kept(Mutex<Vec<(String, Arc<dyn Any + Send + Sync>)>>);

impl Kept {
    /// What is kept under this name, or else what `make` makes, kept from now on. Nothing is kept of an error. Two callers at the
    /// same time may both make it, and get the same one.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get_or_make<T: Send + Sync + 'static>(&self, name: &str, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        if let Some(known) = self.find(name) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        if let Some(known) = self.find(name) {
            return Ok(known);
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(0, (name.to_string(), Arc::clone(&made) as Arc<dyn Any + Send + Sync>));
        all.truncate(MOST);
        Ok(made)
    }

    fn find<T: Send + Sync + 'static>(&self, name: &str) -> Option<Arc<T>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(known, value)| known == name && value.is::<T>())?;
        all[..=at].rotate_right(1);
        Arc::clone(&all[0].1).downcast().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_finding_is_made_once_and_an_error_is_no_finding() {
        let kept = Kept::default();
        assert!(kept.get_or_make("a", || Err::<usize, _>(Error::interrupted())).is_err());
        let first = kept.get_or_make("a", || Ok(1usize)).unwrap();
        assert!(Arc::ptr_eq(&first, &kept.get_or_make("a", || Err(Error::interrupted())).unwrap()));
        assert_eq!(*kept.get_or_make("b", || Ok(2usize)).unwrap(), 2);
    }

    #[test]
    fn what_was_not_used_for_long_is_made_again() {
        let kept = Kept::default();
        for i in 0..MOST {
            kept.get_or_make(&i.to_string(), || Ok(i)).unwrap();
        }
        kept.get_or_make("0", || Err::<usize, _>(Error::interrupted())).unwrap();
        kept.get_or_make("another", || Ok(7usize)).unwrap();
        assert!(kept.get_or_make("0", || Err::<usize, _>(Error::interrupted())).is_ok());
        assert!(kept.get_or_make("1", || Err::<usize, _>(Error::interrupted())).is_err());
    }
}
