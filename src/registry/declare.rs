//! Builder methods that tools, prompts, resources and templates have in common.

/// Implements the common methods for a builder with a field `description`. The arguments are the documentation of
/// `description` and of `deadline`.
macro_rules! impl_describe_methods {
    ($description:literal, $deadline:literal) => {
        #[doc = $description]
        #[must_use]
        pub fn description(mut self, description: impl Into<Cow<'static, str>>) -> Self {
            self.description.text = Some(description.into());
            self
        }

        /// Sets the display name.
        #[must_use]
        pub fn title(mut self, title: impl Into<Cow<'static, str>>) -> Self {
            self.description.title = Some(title.into());
            self
        }

        /// Adds an icon.
        #[must_use]
        pub fn icon(mut self, icon: Icon) -> Self {
            self.description.icons.push(icon);
            self
        }

        /// Adds a member to the `_meta` of the list item.
        #[must_use]
        pub fn meta(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
            self.description.meta.insert(key.into(), value.into());
            self
        }

        #[doc = $deadline]
        #[must_use]
        pub fn deadline(mut self, deadline: Duration) -> Self {
            self.description.deadline = Some(deadline);
            self
        }
    };
}

/// The methods that declare what a call reads of its request, for a builder with [`DeclaredReads`](crate::call::DeclaredReads) in
/// `$reads`.
macro_rules! impl_read_methods {
    ($($reads:ident).+) => {
        /// Declares the headers that async, blocking and tokio handlers read by [`Context::header`](crate::Context::header): a call that
        /// outlives the received bytes copies these and nothing else. Their names and values, with what
        /// [`Self::request_meta`] names, may have 4 KiB; a call with more is rejected. An inline handler reads any header without
        /// this. A name that is not a token
        /// ([RFC 9110, section 5.1](https://www.rfc-editor.org/rfc/rfc9110#section-5.1)) makes the registry invalid. May be
        /// called repeatedly.
        ///
        /// Values may be secrets (`Authorization`, `Cookie`): the server logs none of them.
        #[must_use]
        pub fn headers<N: Into<Cow<'static, str>>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
            self.$($reads).+.headers.extend(names.into_iter().map(Into::into));
            self
        }

        /// Declares the members of the request's `_meta` that async, blocking and tokio handlers read by
        /// [`Context::meta`](crate::Context::meta), as [`Self::headers`]: copied within the same 4 KiB, in which each JSON
        /// value has 32 bytes besides its text. May be called repeatedly.
        #[must_use]
        pub fn request_meta<K: Into<Cow<'static, str>>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
            self.$($reads).+.meta.extend(keys.into_iter().map(Into::into));
            self
        }

        /// Declares that async, blocking and tokio handlers read [`Context::client`](crate::Context::client): as
        /// [`Self::request_meta`] with `io.modelcontextprotocol/clientInfo`.
        #[must_use]
        pub fn client_info(self) -> Self {
            self.request_meta([crate::call::CLIENT_INFO])
        }
    };
}

pub(super) use impl_describe_methods;
pub(super) use impl_read_methods;
