//! Declaring resources and templates of them (MCP specification, server/resources; checklist R-01 to R-05).

use std::{borrow::Cow, collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    cache::{Cache, CacheScope},
    completion::Completer,
    content::Annotations,
    context::{Context, RemoteContext},
    declare::ways_to_describe,
    error::{HandlerError, ProtocolError},
    handler::{Convert, Handler, ways_to_run},
    info::Icon,
    reply::Reply,
    text::{self, Text},
};
use crate::{json::Node, uri_template::UriTemplate};

/// A declared resource.
#[derive(Clone)]
pub struct Resource {
    /// Shared by the copies of a declaration: a registry that changes compiles and encodes only what is new.
    pub(super) description: Arc<ResourceDescription>,
    pub(super) handler: Handler,
}

/// A declared template: resources that are not listed one by one.
#[derive(Clone)]
pub struct ResourceTemplate {
    /// Shared by the copies of a declaration: a registry that changes compiles and encodes only what is new.
    pub(super) description: Arc<ResourceDescription>,
    pub(super) handler: Handler,
}

/// What clients are told of a resource or a template.
pub(super) struct ResourceDescription {
    /// The URI, or the template.
    pub(super) uri: Cow<'static, str>,
    pub(super) name: Cow<'static, str>,
    pub(super) title: Option<Cow<'static, str>>,
    pub(super) text: Option<Cow<'static, str>>,
    pub(super) mime_type: Option<Cow<'static, str>>,
    pub(super) size: Option<u64>,
    pub(super) icons: Vec<Icon>,
    pub(super) annotations: Option<Annotations>,
    pub(super) meta: Map<String, Value>,
    pub(super) cache: Cache,
    pub(super) completers: Vec<Completer>,
    pub(super) deadline: Option<Duration>,
    /// Why the handler's type can never be read from the template's variables.
    pub(super) unreadable: Option<String>,
}

/// A part of what a resource holds: text or bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// Its own URI; the one that was read if it has none.
    uri: Option<String>,
    mime_type: Option<String>,
    data: Data,
    meta: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
enum Data {
    Text(String),
    Blob(String),
}

impl Contents {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { uri: None, mime_type: None, data: Data::Text(text.into()), meta: Map::new() }
    }

    /// Bytes.
    #[must_use]
    pub fn blob(data: &[u8]) -> Self {
        let data = Data::Blob(BASE64_STANDARD.encode(data));
        Self { uri: None, mime_type: None, data, meta: Map::new() }
    }

    /// Its media type, where it is not the resource's.
    #[must_use]
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
        self.mime_type = Some(mime_type.into());
        self
    }

    /// Its URI, where it is not the one that was read: a file of a directory, say.
    #[must_use]
    pub fn uri(mut self, uri: impl Into<String>) -> Self {
        self.uri = Some(uri.into());
        self
    }

    /// Adds a member to its `_meta`.
    #[must_use]
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.insert(key.into(), value.into());
        self
    }

    fn describe(self, read: &str, mime_type: Option<&str>) -> Map<String, Value> {
        let mut described = Map::new();
        described.insert("uri".into(), self.uri.unwrap_or_else(|| read.to_owned()).into());
        if let Some(mime_type) = self.mime_type.as_deref().or(mime_type) {
            described.insert("mimeType".into(), mime_type.into());
        }
        match self.data {
            Data::Text(text) => described.insert("text".into(), text.into()),
            Data::Blob(blob) => described.insert("blob".into(), blob.into()),
        };
        if !self.meta.is_empty() {
            described.insert("_meta".into(), Value::Object(self.meta));
        }
        described
    }
}

/// What reading a resource may return. `None` is a resource that is not there.
#[diagnostic::on_unimplemented(
    message = "reading a resource cannot return `{Self}`",
    label = "cannot be made contents",
    note = "return a text, `Contents`, `Vec<Contents>`, or an `Option` or a `Result` of these"
)]
pub trait IntoContents {
    /// The contents, or why there are none.
    ///
    /// # Errors
    /// What the client is told; `None` becomes "not found", which every revision has its own code for.
    fn into_contents(self) -> Result<Option<Vec<Contents>>, ProtocolError>;
}

impl IntoContents for Contents {
    fn into_contents(self) -> Result<Option<Vec<Contents>>, ProtocolError> {
        Ok(Some(vec![self]))
    }
}

impl IntoContents for Vec<Contents> {
    fn into_contents(self) -> Result<Option<Vec<Contents>>, ProtocolError> {
        Ok(Some(self))
    }
}

impl IntoContents for String {
    fn into_contents(self) -> Result<Option<Vec<Contents>>, ProtocolError> {
        Ok(Some(vec![Contents::text(self)]))
    }
}

impl IntoContents for Cow<'_, str> {
    fn into_contents(self) -> Result<Option<Vec<Contents>>, ProtocolError> {
        Ok(Some(vec![Contents::text(self)]))
    }
}

impl IntoContents for &str {
    fn into_contents(self) -> Result<Option<Vec<Contents>>, ProtocolError> {
        Ok(Some(vec![Contents::text(self)]))
    }
}

impl<T: IntoContents> IntoContents for Option<T> {
    fn into_contents(self) -> Result<Option<Vec<Contents>>, ProtocolError> {
        self.map_or(Ok(None), IntoContents::into_contents)
    }
}

impl<T: IntoContents, E: HandlerError> IntoContents for Result<T, E> {
    fn into_contents(self) -> Result<Option<Vec<Contents>>, ProtocolError> {
        self.map_err(|error| error.into_call_error().into_protocol())?.into_contents()
    }
}

/// What a template's handler gets: the URI that is read, and the template's variables with their escapes undone. They come
/// from the client: a path made of them must be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<V> {
    /// The URI.
    pub uri: String,
    /// The variables.
    pub variables: V,
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Resource").field("uri", &self.uri()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ResourceTemplate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ResourceTemplate").field("template", &self.template()).finish_non_exhaustive()
    }
}

impl ResourceDescription {
    fn new(uri: Cow<'static, str>, name: Cow<'static, str>) -> Self {
        Self {
            uri,
            name,
            title: None,
            text: None,
            mime_type: None,
            size: None,
            icons: Vec::new(),
            annotations: None,
            meta: Map::new(),
            cache: Cache::default(),
            completers: Vec::new(),
            deadline: None,
            unreadable: None,
        }
    }
}

impl Resource {
    /// Starts declaring a resource: what clients read it by, and what programs call it.
    #[allow(clippy::new_ret_no_self, reason = "a resource without a handler is none")]
    pub fn new(uri: impl Into<Cow<'static, str>>, name: impl Into<Cow<'static, str>>) -> ResourceBuilder {
        ResourceBuilder { description: ResourceDescription::new(uri.into(), name.into()) }
    }

    /// What clients read it by.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.description.uri
    }
}

impl ResourceTemplate {
    /// Starts declaring a template (RFC 6570), as `file:///logs/{date}`: what it matches, and what programs call it.
    #[allow(clippy::new_ret_no_self, reason = "a template without a handler is none")]
    pub fn new(
        template: impl Into<Cow<'static, str>>,
        name: impl Into<Cow<'static, str>>,
    ) -> ResourceTemplateBuilder<BTreeMap<String, String>> {
        let description = ResourceDescription::new(template.into(), name.into());
        ResourceTemplateBuilder { description, variables: PhantomData }
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.description.uri
    }
}

/// A resource being declared.
pub struct ResourceBuilder {
    description: ResourceDescription,
}

/// A template being declared, with variables of type `V`.
pub struct ResourceTemplateBuilder<V> {
    description: ResourceDescription,
    variables: PhantomData<fn(V)>,
}

/// What resources and templates are described by alike.
macro_rules! describe {
    () => {
        ways_to_describe!(
            "What it holds, for people and for the model.",
            "How long reading may take, instead of `limits.call_deadline`."
        );

        /// Its media type, where its contents do not have their own.
        #[must_use]
        pub fn mime_type(mut self, mime_type: impl Into<Cow<'static, str>>) -> Self {
            self.description.mime_type = Some(mime_type.into());
            self
        }

        /// Says whom it is for.
        #[must_use]
        pub fn annotations(mut self, annotations: Annotations) -> Self {
            self.description.annotations = Some(annotations);
            self
        }

        /// How long, and for whom, what was read may be kept; not at all without this.
        #[must_use]
        pub fn cache(mut self, ttl: Duration, scope: CacheScope) -> Self {
            self.description.cache = Cache { ttl, scope };
            self
        }
    };
}

impl ResourceBuilder {
    describe!();

    /// Its size in bytes, before any encoding.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.description.size = Some(bytes);
        self
    }

    /// A resource that is always the same.
    #[must_use]
    pub fn contents(self, contents: impl Into<Vec<Contents>>) -> Resource {
        let contents = contents.into();
        self.run(move |_uri, _cx| contents.clone())
    }

    fn convert<R: IntoContents + 'static>(&self) -> Convert<String, R, Kept> {
        let mime_type = self.description.mime_type.clone();
        let read = move |node: Node<'_>| {
            let uri = uri(node);
            Ok((uri.clone(), Kept { uri, mime_type: mime_type.clone() }))
        };
        Convert { read: Arc::new(read), refuse, put }
    }

    fn finish(self, handler: Handler) -> Resource {
        Resource { description: Arc::new(self.description), handler }
    }

    /// Read by a fast function, which gets the URI: runs on the core, before the next request. Must not block.
    pub fn run<F, R>(self, run: F) -> Resource
    where
        F: Fn(String, Context) -> R + Send + Sync + 'static,
        R: IntoContents + 'static,
    {
        let handler = self.convert().inline(run);
        self.finish(handler)
    }

    ways_to_run!(String, IntoContents, Resource, Send: []);
}

impl<V> ResourceTemplateBuilder<V> {
    describe!();

    /// Takes the variables as a `T`, a struct; what is not an `Option` must be there. Numbers, booleans, characters and enums
    /// of plain names are read from the texts that stand in the URI, and lists from what stands between commas, or between the
    /// separators of an exploded variable. A type with other fields is refused with the registry.
    ///
    /// ```
    /// #[derive(serde::Deserialize)]
    /// struct Day {
    ///     year: u16,
    ///     tags: Option<Vec<String>>,
    /// }
    ///
    /// let template = corelane::ResourceTemplate::new("logs://{year}{/tags*}", "day")
    ///     .variables::<Day>()
    ///     .run(|read, _cx| format!("{} {:?}", read.variables.year, read.variables.tags));
    /// ```
    #[must_use]
    pub fn variables<T>(self) -> ResourceTemplateBuilder<T> {
        ResourceTemplateBuilder { description: self.description, variables: PhantomData }
    }

    /// Says how a variable is completed.
    #[must_use]
    pub fn complete(mut self, completer: Completer) -> Self {
        self.description.completers.push(completer);
        self
    }
}

impl<V: DeserializeOwned + 'static> ResourceTemplateBuilder<V> {
    fn convert<R: IntoContents + 'static>(&self) -> Convert<Read<V>, R, Kept> {
        let mime_type = self.description.mime_type.clone();
        // A template that cannot be compiled is refused with the registry, before anything is read by it.
        let template = UriTemplate::parse(&self.description.uri).ok();
        let read = move |node: Node<'_>| {
            let uri = uri(node);
            let values = || {
                let values = template.as_ref().and_then(|template| template.lists(&uri)).unwrap_or_default();
                values
                    .into_iter()
                    .map(|(name, value, list)| (name, Text { text: value.into(), list: Some(list) }))
            };
            let variables = text::read(values).map_err(|told| format!("Invalid URI: {told}"))?;
            Ok((Read { uri: uri.clone(), variables }, Kept { uri, mime_type: mime_type.clone() }))
        };
        Convert { read: Arc::new(read), refuse, put }
    }

    fn finish(mut self, handler: Handler) -> ResourceTemplate {
        // A template that cannot be compiled is refused for that.
        if let Ok(template) = UriTemplate::parse(&self.description.uri) {
            let names: Vec<&str> = template.variables().collect();
            self.description.unreadable = text::unreadable::<V>(&names, true);
        }
        ResourceTemplate { description: Arc::new(self.description), handler }
    }

    /// Read by a fast function: runs on the core, before the next request. Must not block.
    pub fn run<F, R>(self, run: F) -> ResourceTemplate
    where
        F: Fn(Read<V>, Context) -> R + Send + Sync + 'static,
        R: IntoContents + 'static,
    {
        let handler = self.convert().inline(run);
        self.finish(handler)
    }

    ways_to_run!(Read<V>, IntoContents, ResourceTemplate, Send: [V]);
}

fn uri(node: Node<'_>) -> String {
    node.as_str().unwrap_or_default().to_owned()
}

fn refuse(reply: &mut Reply, told: String) {
    reply.fail(ProtocolError::invalid_params(told));
}

/// What goes past a handler: what it need not say of its contents.
struct Kept {
    uri: String,
    mime_type: Option<Cow<'static, str>>,
}

fn put<R: IntoContents>(said: R, kept: Kept, reply: &mut Reply) {
    match said.into_contents() {
        // Nothing at all would be taken for a resource that is empty (checklist R-04).
        Ok(None) => reply.fail(ProtocolError::resource_not_found(&kept.uri)),
        Ok(Some(contents)) if contents.is_empty() => reply.fail(ProtocolError::resource_not_found(&kept.uri)),
        Ok(Some(contents)) => {
            for part in contents {
                reply.contents(&part.describe(&kept.uri, kept.mime_type.as_deref()));
            }
        }
        Err(error) => reply.fail(error),
    }
}
