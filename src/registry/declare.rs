//! What tools, prompts, resources and templates are described by alike.

/// The ways in which whatever is declared may be described, for a builder with a `description`: what its description tells,
/// and what its deadline bounds.
macro_rules! ways_to_describe {
    ($description:literal, $deadline:literal) => {
        #[doc = $description]
        #[must_use]
        pub fn description(mut self, description: impl Into<Cow<'static, str>>) -> Self {
            self.description.text = Some(description.into());
            self
        }

        /// The name people see.
        #[must_use]
        pub fn title(mut self, title: impl Into<Cow<'static, str>>) -> Self {
            self.description.title = Some(title.into());
            self
        }

        /// Adds a picture that clients may show.
        #[must_use]
        pub fn icon(mut self, icon: Icon) -> Self {
            self.description.icons.push(icon);
            self
        }

        /// Adds a member to its `_meta`.
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

pub(super) use ways_to_describe;
