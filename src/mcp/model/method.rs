//! The methods of the protocol, and the eras of each.

use crate::call::{Kind, Revision};

/// The eras in which a method exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Eras {
    Legacy,
    Modern,
    Both,
}

macro_rules! methods {
    ($($variant:ident $name:literal $eras:ident,)*) => {
        /// A method, as counted in metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RpcMethod {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
            /// Rejected requests, notifications, and requests that open or close a stream.
            Other,
        }

        impl RpcMethod {
            /// All methods.
            pub const ALL: [Self; [$(Self::$variant,)* Self::Other].len()] = [$(Self::$variant,)* Self::Other];

            /// The name of the method in the protocol.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other => "other",
                }
            }

            /// Parses the name of a method that exists in the era of `revision`.
            pub(crate) fn parse(method: &str, revision: Revision) -> Option<Self> {
                let (found, eras) = match method {
                    $($name => (Self::$variant, Eras::$eras),)*
                    _ => return None,
                };
                let other = if revision.is_modern() { Eras::Legacy } else { Eras::Modern };
                (eras != other).then_some(found)
            }
        }
    };
}

methods! {
    ToolsCall "tools/call" Both,
    ToolsList "tools/list" Both,
    ResourcesRead "resources/read" Both,
    ResourcesList "resources/list" Both,
    TemplatesList "resources/templates/list" Both,
    PromptsGet "prompts/get" Both,
    PromptsList "prompts/list" Both,
    Complete "completion/complete" Both,
    Discover "server/discover" Modern,
    Listen "subscriptions/listen" Modern,
    TasksGet "tasks/get" Modern,
    TasksUpdate "tasks/update" Modern,
    TasksCancel "tasks/cancel" Modern,
    Initialize "initialize" Legacy,
    Ping "ping" Legacy,
    SetLevel "logging/setLevel" Legacy,
    Subscribe "resources/subscribe" Legacy,
    Unsubscribe "resources/unsubscribe" Legacy,
}

impl From<Kind> for RpcMethod {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Tool => Self::ToolsCall,
            Kind::Prompt => Self::PromptsGet,
            Kind::Resource => Self::ResourcesRead,
            Kind::Completion => Self::Complete,
        }
    }
}
