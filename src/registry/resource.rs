//! `Resource`, `ResourceTemplate` and their builders
//! (<https://modelcontextprotocol.io/specification/2026-07-28/server/resources>).

use std::{borrow::Cow, collections::BTreeMap, marker::PhantomData, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    completion::Completer,
    declare::{impl_describe_methods, impl_read_methods},
    text::{self, Text},
};
use crate::{
    call::{
        Adapter, Annotations, Cache, CacheScope, Context, DeclaredReads, Handler, HandlerError, Icon,
        InlineContext, ProtocolError, RemoteContext, Reply, impl_run_methods,
    },
    json::Node,
    uri_template::UriTemplate,
};

/// A declared resource.
#[derive(Clone)]
pub struct Resource {
    /// Shared by clones, which a registry recognizes as unchanged by its address.
    pub(super) description: Arc<ResourceDescription>,
    pub(super) handler: Handler,
}

/// A declared resource template: a set of resources that are not listed one by one.
#[derive(Clone)]
pub struct ResourceTemplate {
    /// Shared by clones, which a registry recognizes as unchanged by its address.
    pub(super) description: Arc<ResourceDescription>,
    pub(super) handler: Handler,
}

/// The declaration of a resource or a template, except for its handler.
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
    pub(super) reads: DeclaredReads,
    /// Why the handler's type cannot be deserialized from the variables; reported when the registry is compiled.
    pub(super) unreadable: Option<String>,
}

/// An item of a resource's contents: text or bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// URI of the item, if it is not the one that was read.
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

    /// Sets the media type, where it is not that of the resource.
    #[must_use]
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
        self.mime_type = Some(mime_type.into());
        self
    }

    /// Sets the URI, where it is not the one that was read: for example, that of a file in a directory.
    #[must_use]
    pub fn uri(mut self, uri: impl Into<String>) -> Self {
        self.uri = Some(uri.into());
        self
    }

    /// Adds a member to the item's `_meta`.
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

/// Types that the handler of a resource may return. `None` is a missing resource.
#[diagnostic::on_unimplemented(
    message = "reading a resource cannot return `{Self}`",
    label = "cannot be made contents",
    note = "return a text, `Contents`, `Vec<Contents>`, or an `Option` or a `Result` of these"
)]
pub trait IntoContents {
    /// Converts to the contents. `None` becomes the revision's error for a missing resource.
    ///
    /// # Errors
    /// The error that is sent to the client.
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

/// The URI that is read, and the variables of the template, percent-decoded once. The values come from the client: `{path}` may be
/// `../etc/passwd`, because its value may contain an encoded `/`. A handler opens files by
/// [`open_within`](crate::open_within), or checks paths by [`path_within`](crate::path_within).
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
            reads: DeclaredReads::default(),
            unreadable: None,
        }
    }
}

impl Resource {
    /// Starts the declaration of a resource with this URI and programmatic name.
    #[allow(clippy::new_ret_no_self, reason = "a resource without a handler is none")]
    pub fn new(uri: impl Into<Cow<'static, str>>, name: impl Into<Cow<'static, str>>) -> ResourceBuilder {
        ResourceBuilder { description: ResourceDescription::new(uri.into(), name.into()) }
    }

    /// The URI.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.description.uri
    }
}

impl ResourceTemplate {
    /// Starts the declaration of a URI template (RFC 6570), for example `file:///logs/{date}`, with its programmatic name.
    ///
    /// A variable is untrusted input and may contain `/` and `..`: of `file:///data/{path}` the value of `path` may be
    /// `../etc/passwd`. Open files by [`open_within`](crate::open_within), not by a path that is joined from a variable.
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

/// Builder of a [`Resource`].
pub struct ResourceBuilder {
    description: ResourceDescription,
}

/// Builder of a [`ResourceTemplate`] with variables of type `V`.
pub struct ResourceTemplateBuilder<V> {
    description: ResourceDescription,
    variables: PhantomData<fn(V)>,
}

/// Implements the builder methods that resources and templates have in common.
macro_rules! describe {
    () => {
        impl_describe_methods!(
            "Describes the contents to people and to the model.",
            "Sets the deadline of `resources/read`, instead of `limits.call_deadline`."
        );

        impl_read_methods!(description.reads);

        /// Sets the media type of contents that do not have their own.
        #[must_use]
        pub fn mime_type(mut self, mime_type: impl Into<Cow<'static, str>>) -> Self {
            self.description.mime_type = Some(mime_type.into());
            self
        }

        /// Sets the annotations.
        #[must_use]
        pub fn annotations(mut self, annotations: Annotations) -> Self {
            self.description.annotations = Some(annotations);
            self
        }

        /// Sets how long clients may cache the contents, and whether a copy may be shared. Without this they are not cached.
        #[must_use]
        pub fn cache(mut self, ttl: Duration, scope: CacheScope) -> Self {
            self.description.cache = Cache { ttl, scope };
            self
        }
    };
}

impl ResourceBuilder {
    describe!();

    /// Sets the size in bytes, before any encoding.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.description.size = Some(bytes);
        self
    }

    /// Sets constant contents.
    #[must_use]
    pub fn contents(self, contents: impl Into<Vec<Contents>>) -> Resource {
        let contents = contents.into();
        self.run(move |_uri, _cx| contents.clone())
    }

    fn adapter<R: IntoContents + 'static>(&self) -> Adapter<String, R, Passthrough> {
        let mime_type = self.description.mime_type.clone();
        let read = move |node: Node<'_>| {
            let uri = uri(node);
            Ok((uri.clone(), Passthrough { uri, mime_type: mime_type.clone() }))
        };
        Adapter { read: Arc::new(read), refuse, put }
    }

    fn finish(self, handler: Handler) -> Resource {
        Resource { description: Arc::new(self.description), handler }
    }

    /// Sets a handler, called with the URI, that runs inline on the shard. Must not block.
    pub fn run<F, R>(self, run: F) -> Resource
    where
        F: Fn(String, InlineContext<'_>) -> R + Send + Sync + 'static,
        R: IntoContents + 'static,
    {
        let handler = self.adapter().inline(run);
        self.finish(handler)
    }

    impl_run_methods!(String, IntoContents, Resource, Send: []);
}

impl<V> ResourceTemplateBuilder<V> {
    describe!();

    /// Sets the type of the variables: a struct, of which fields that are not `Option` are required. Numbers, booleans,
    /// characters and enums of unit variants are parsed from the strings in the URI, and lists from strings separated by
    /// commas or by the separators of an exploded variable. A type with other fields is rejected when the registry is
    /// compiled.
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

    /// Adds the completer of a variable.
    #[must_use]
    pub fn complete(mut self, completer: Completer) -> Self {
        self.description.completers.push(completer);
        self
    }
}

impl<V: DeserializeOwned + 'static> ResourceTemplateBuilder<V> {
    fn adapter<R: IntoContents + 'static>(&self) -> Adapter<Read<V>, R, Passthrough> {
        let mime_type = self.description.mime_type.clone();
        // A template that does not compile is rejected with the registry, so its handler never runs.
        let template = UriTemplate::parse(&self.description.uri).ok();
        let read = move |node: Node<'_>| {
            let uri = uri(node);
            let values = || {
                let values = template.as_ref().and_then(|template| template.lists(&uri)).unwrap_or_default();
                values
                    .into_iter()
                    .map(|(name, value, list)| (name, Text { text: value.into(), list: Some(list) }))
            };
            let variables = text::read(values).map_err(|message| format!("Invalid URI: {message}"))?;
            Ok((Read { uri: uri.clone(), variables }, Passthrough { uri, mime_type: mime_type.clone() }))
        };
        Adapter { read: Arc::new(read), refuse, put }
    }

    fn finish(mut self, handler: Handler) -> ResourceTemplate {
        // A template that does not compile is rejected for that reason.
        if let Ok(template) = UriTemplate::parse(&self.description.uri) {
            let names: Vec<&str> = template.variables().collect();
            self.description.unreadable = text::unreadable::<V>(&names, true);
        }
        ResourceTemplate { description: Arc::new(self.description), handler }
    }

    /// Sets a handler that runs inline on the shard. Must not block.
    pub fn run<F, R>(self, run: F) -> ResourceTemplate
    where
        F: Fn(Read<V>, InlineContext<'_>) -> R + Send + Sync + 'static,
        R: IntoContents + 'static,
    {
        let handler = self.adapter().inline(run);
        self.finish(handler)
    }

    impl_run_methods!(Read<V>, IntoContents, ResourceTemplate, Send: [V]);
}

fn uri(node: Node<'_>) -> String {
    node.as_str().unwrap_or_default().to_owned()
}

fn refuse(reply: &mut Reply, message: String) {
    reply.fail(ProtocolError::invalid_params(message));
}

/// Properties of the request that complete the handler's contents.
struct Passthrough {
    uri: String,
    mime_type: Option<Cow<'static, str>>,
}

fn put<R: IntoContents>(value: R, passthrough: Passthrough, reply: &mut Reply) {
    match value.into_contents() {
        // Empty contents would mean that the resource exists
        // (<https://modelcontextprotocol.io/specification/2026-07-28/server/resources#error-handling>).
        Ok(None) => reply.fail(ProtocolError::resource_not_found(&passthrough.uri)),
        Ok(Some(contents)) if contents.is_empty() => {
            reply.fail(ProtocolError::resource_not_found(&passthrough.uri))
        }
        Ok(Some(contents)) => {
            for part in contents {
                reply.contents(&part.describe(&passthrough.uri, passthrough.mime_type.as_deref()));
            }
        }
        Err(mut error) => {
            if error.is_resource_not_found() && error.data.is_none() {
                error.data = ProtocolError::resource_not_found(&passthrough.uri).data;
            }
            reply.fail(error);
        }
    }
}
