//! What an input with a socket is told: where it is, how it serves, and what becomes of its records.

use std::fmt::Debug;
use std::sync::Arc;

use super::feed;
use super::{Field, Input};
use crate::config::json::Object;
use crate::config::resolve::Resolver;
use crate::error::Result;

/// Some of the keys of an input.
pub trait Part: Debug + Send + Sync + Sized {
    /// Records have a topic.
    const HAS_TOPIC: bool = false;

    /// Reads them from an input's object.
    fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Self>;

    /// As they stand in a configuration.
    fn to_json(&self) -> Vec<Field>;
}

/// No keys.
impl Part for () {
    fn read(_: &mut Object<'_>, _: &Resolver<'_>) -> Result<Self> {
        Ok(())
    }

    fn to_json(&self) -> Vec<Field> {
        Vec::new()
    }
}

/// See the module's description.
#[derive(Clone, Debug)]
pub struct Told<P, H> {
    /// Where it is.
    pub place: P,
    /// How it serves.
    pub how: H,
    /// What becomes of its records.
    pub feed: feed::Options,
}

impl<P: Part, H: Part> Told<P, H> {
    /// Reads it from an input's object.
    pub fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Arc<dyn Input>>
    where
        Self: Input + 'static,
    {
        Ok(Arc::new(Self {
            place: P::read(object, resolver)?,
            how: H::read(object, resolver)?,
            feed: feed::Options::read(object, resolver, H::HAS_TOPIC)?,
        }))
    }

    /// All keys as they stand in a configuration.
    pub fn to_json(&self) -> Vec<Field> {
        let Self { place, how, feed } = self;
        [place.to_json(), how.to_json(), feed.to_json()].concat()
    }
}
