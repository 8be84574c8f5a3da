//! The values that all handlers of one shard share.

use std::{any::Any, rc::Rc, sync::Arc};

/// One shard's state, as its factory made it.
pub type ShardState = Rc<dyn Any>;

/// Publishes that a resource has changed to its subscribers; from any thread.
pub trait Publish: Send + Sync {
    /// The resource of this URI has changed.
    fn resource_updated(&self, uri: &str);
}

/// The values that all handlers of one shard share.
#[derive(Clone, Default)]
pub struct ShardContext {
    /// The shard's own state.
    pub state: Option<ShardState>,
    /// Reaches the subscribers of all shards; without it changes are not published.
    pub publisher: Option<Arc<dyn Publish>>,
}

impl ShardContext {
    /// The shard's own state.
    ///
    /// # Panics
    /// When the server has no state of this type.
    #[allow(clippy::panic, reason = "a mistake in the program, not in a request; caught and answered")]
    pub(super) fn state<T: 'static>(&self) -> &T {
        match self.state.as_ref().and_then(|state| state.downcast_ref()) {
            Some(state) => state,
            None => panic!("the server has no shard state of type {}", std::any::type_name::<T>()),
        }
    }

    pub(super) fn resource_updated(&self, uri: &str) {
        if let Some(publisher) = &self.publisher {
            publisher.resource_updated(uri);
        }
    }
}
