//! The members of `params`.

use crate::json::Node;

/// The members of `params` that methods use, found in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Params<'a> {
    pub(crate) meta: Option<Node<'a>>,
    pub(crate) name: Option<Node<'a>>,
    pub(crate) arguments: Option<Node<'a>>,
    pub(crate) cursor: Option<Node<'a>>,
    pub(crate) uri: Option<Node<'a>>,
    pub(crate) input_responses: Option<Node<'a>>,
    pub(crate) request_state: Option<Node<'a>>,
    /// All of `params`, for the members that few methods use.
    whole: Option<Node<'a>>,
}

impl<'a> Params<'a> {
    pub(crate) fn read(params: Option<Node<'a>>) -> Self {
        let mut read = Self { whole: params, ..Self::default() };
        let Some(members) = params.and_then(Node::members) else {
            return read;
        };
        for (key, value) in members {
            let slot = match key {
                "_meta" => &mut read.meta,
                "name" => &mut read.name,
                "arguments" => &mut read.arguments,
                "cursor" => &mut read.cursor,
                "uri" => &mut read.uri,
                "inputResponses" => &mut read.input_responses,
                "requestState" => &mut read.request_state,
                _ => continue,
            };
            *slot = Some(value);
        }
        read
    }

    /// A member by its name.
    pub(crate) fn get(&self, key: &str) -> Option<Node<'a>> {
        self.whole?.get(key)
    }

    /// The same parameters without `inputResponses` and `requestState`, for methods that cannot return `input_required`.
    pub(crate) fn without_input(&self) -> Self {
        Self { input_responses: None, request_state: None, ..*self }
    }
}
