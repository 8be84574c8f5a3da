//! Declaring a server.

use std::{rc::Rc, sync::Arc};

use super::{error::StartError, live_registry::LiveRegistry};
use crate::{
    config::Config,
    registry::{Icon, Prompt, Registry, Resource, ResourceTemplate, ServerInfo, ShardState, Tool},
};

/// Makes each shard's state.
pub(super) type StateFactory = Arc<dyn Fn(usize) -> ShardState + Send + Sync>;

/// A server, ready to be run.
#[derive(Clone)]
pub struct Server {
    pub(super) registry: LiveRegistry,
    pub(super) state: Option<StateFactory>,
}

/// Declares a server.
#[derive(Clone)]
pub struct ServerBuilder {
    pub(super) registry: Registry,
    pub(super) state: Option<StateFactory>,
}

impl Server {
    /// Starts declaring a server; clients see its name and version.
    pub fn builder(name: impl Into<String>, version: impl Into<String>) -> ServerBuilder {
        let info = ServerInfo { name: name.into(), version: version.into(), ..ServerInfo::default() };
        ServerBuilder { registry: Registry::new(info), state: None }
    }

    /// What it offers, now and while it runs.
    #[must_use]
    pub fn registry(&self) -> LiveRegistry {
        self.registry.clone()
    }
}

impl ServerBuilder {
    /// Adds a tool. Tools are listed in the order they are added.
    #[must_use]
    pub fn tool(mut self, tool: Tool) -> Self {
        self.registry.add(tool);
        self
    }

    /// Adds a resource. Resources are listed in the order they are added.
    #[must_use]
    pub fn resource(mut self, resource: Resource) -> Self {
        self.registry.add(resource);
        self
    }

    /// Adds a template of resources. The first that a URI matches reads it.
    #[must_use]
    pub fn template(mut self, template: ResourceTemplate) -> Self {
        self.registry.add(template);
        self
    }

    /// Adds a prompt. Prompts are listed in the order they are added.
    #[must_use]
    pub fn prompt(mut self, prompt: Prompt) -> Self {
        self.registry.add(prompt);
        self
    }

    /// Declares an extension (checklist N-01): an id with a prefix, as `com.example/foo`, and its settings.
    #[must_use]
    pub fn extension(mut self, id: impl Into<String>, settings: serde_json::Value) -> Self {
        self.registry.declare_extension(id, settings);
        self
    }

    /// What people call the server.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.registry.info.title = Some(title.into());
        self
    }

    /// What the server is for, for people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.registry.info.description = Some(text.into());
        self
    }

    /// Where to read more about the server.
    #[must_use]
    pub fn website_url(mut self, url: impl Into<String>) -> Self {
        self.registry.info.website_url = Some(url.into());
        self
    }

    /// Adds a picture of the server.
    #[must_use]
    pub fn icon(mut self, icon: Icon) -> Self {
        self.registry.info.icons.push(icon);
        self
    }

    /// Gives each shard a state of its own, made on its thread by `make` from the shard's number; tools that run there
    /// reach it by [`Context::state`](crate::Context::state). Nothing in it needs a lock.
    ///
    /// ```
    /// use std::cell::Cell;
    ///
    /// use corelane::{Server, Tool};
    ///
    /// let server = Server::builder("counter", "1")
    ///     .shard_state(|_shard| Cell::new(0_u64))
    ///     .tool(Tool::new("count").run(|_, cx| {
    ///         let counter = cx.state::<Cell<u64>>();
    ///         counter.set(counter.get() + 1);
    ///         format!("{} calls on shard {}", counter.get(), cx.caller().shard)
    ///     }));
    /// ```
    #[must_use]
    pub fn shard_state<T: 'static>(mut self, make: impl Fn(usize) -> T + Send + Sync + 'static) -> Self {
        self.state = Some(Arc::new(move |shard| Rc::new(make(shard))));
        self
    }

    /// How to use this server, for the model.
    #[must_use]
    pub fn instructions(mut self, text: impl Into<String>) -> Self {
        self.registry.info.instructions = Some(text.into());
        self
    }

    /// The server.
    #[must_use]
    pub fn build(self) -> Server {
        Server { registry: LiveRegistry::new(self.registry), state: self.state }
    }

    /// Serves until SIGINT or SIGTERM: [`Server::serve`].
    ///
    /// # Errors
    /// When it cannot start.
    pub fn serve(self, config: &Config) -> Result<(), StartError> {
        self.build().serve(config)
    }
}
