//! Builder methods that tools, prompts, resources and templates have in common.

/// Implements the common methods for a builder with a field `description`. The arguments are the documentation of
/// `description` and of `deadline`.
macro_rules! ways_to_describe {
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

pub(super) use ways_to_describe;
