//! `Server` and its builder.

use std::{rc::Rc, sync::Arc};

use super::{error::StartError, live_registry::LiveRegistry};
use crate::{
    call::{Icon, ShardState},
    config::Config,
    registry::{Prompt, Registry, Resource, ResourceTemplate, ServerInfo, Tool},
};

/// Creates the state of a shard from the shard's number.
pub(super) type StateFactory = Arc<dyn Fn(usize) -> ShardState + Send + Sync>;

/// A declared server, ready to serve.
#[derive(Clone)]
pub struct Server {
    pub(super) registry: LiveRegistry,
    pub(super) state: Option<StateFactory>,
}

/// Builder of a [`Server`].
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

    /// A handle to the registry, valid before the server runs and while it does.
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

    /// Adds a resource template. A URI that matches several is read by the one that was added first.
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

    /// Declares an extension by its id, which has a prefix as in `com.example/foo`, with its settings
    /// (<https://modelcontextprotocol.io/specification/2026-07-28/basic/versioning#extension-negotiation>).
    #[must_use]
    pub fn extension(mut self, id: impl Into<String>, settings: serde_json::Value) -> Self {
        self.registry.declare_extension(id, settings);
        self
    }

    /// Sets the display name.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.registry.info.title = Some(title.into());
        self
    }

    /// Describes the server to people.
    #[must_use]
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.registry.info.description = Some(text.into());
        self
    }

    /// Sets the URL of the server's website.
    #[must_use]
    pub fn website_url(mut self, url: impl Into<String>) -> Self {
        self.registry.info.website_url = Some(url.into());
        self
    }

    /// Adds an icon.
    #[must_use]
    pub fn icon(mut self, icon: Icon) -> Self {
        self.registry.info.icons.push(icon);
        self
    }

    /// Gives each shard a state of its own, created by `make` from the shard's number on the shard's thread. Inline and async
    /// handlers read it by [`Context::state`](crate::Context::state); it needs no lock.
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

    /// Instructions to the model on how to use this server.
    #[must_use]
    pub fn instructions(mut self, text: impl Into<String>) -> Self {
        self.registry.info.instructions = Some(text.into());
        self
    }

    /// Builds the server.
    #[must_use]
    pub fn build(self) -> Server {
        Server { registry: LiveRegistry::new(self.registry), state: self.state }
    }

    /// Serves until SIGINT or SIGTERM: [`Server::serve`].
    ///
    /// # Errors
    /// The server cannot start, or stopped with a failure.
    pub fn serve(self, config: &Config) -> Result<(), StartError> {
        self.build().serve(config)
    }
}
