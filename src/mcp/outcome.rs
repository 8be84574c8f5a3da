//! What becomes of a message, and which method it called.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    era::{Handshake, Tie},
    sessions::{Session, SessionKey},
    subscriptions::Wanted,
    tasks::TaskRequest,
};
use crate::{
    http::Status,
    json::Node,
    jsonrpc::{ErrorCode, Id, OwnedId},
    registry::{CallDetails, Capabilities, Kind, Level, Revision, SharedCallable},
};

/// Which of the two eras, or both, know a method.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Eras {
    Legacy,
    Modern,
    Both,
}

macro_rules! methods {
    ($($variant:ident $name:literal $eras:ident,)*) => {
        /// The methods that are measured apart.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CallMethod {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
            /// Everything that was refused, notifications, and what opens or ends a stream.
            Other,
        }

        impl CallMethod {
            /// All of them.
            pub const ALL: [Self; [$(Self::$variant,)* Self::Other].len()] = [$(Self::$variant,)* Self::Other];

            /// The method's name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Other => "other",
                }
            }

            /// Only the two eras together know all methods.
            pub(super) fn parse(method: &str, revision: Revision) -> Option<Self> {
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

impl From<Kind> for CallMethod {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Tool => Self::ToolsCall,
            Kind::Prompt => Self::PromptsGet,
            Kind::Resource => Self::ResourcesRead,
            Kind::Completion => Self::Complete,
        }
    }
}

/// Why a message is refused: its code, its status, and the metric it is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter)]
#[non_exhaustive]
pub enum Refused {
    /// The body is not JSON, or nested too deeply.
    NotJson,
    /// JSON beyond a limit, counted under this name.
    BeyondLimits(&'static str),
    /// JSON, but no message.
    InvalidRequest,
    /// The envelope of the 2026 era is incomplete: the only wrong parameters that have a status of their own.
    InvalidParams,
    /// A header is missing, or contradicts the body.
    HeaderMismatch,
    /// The client lacks what the tool needs.
    MissingCapability,
    /// The body names a revision nobody here knows.
    UnsupportedVersion,
    /// A header of the legacy era does.
    UnknownLegacyVersion,
    /// No such method in this era.
    UnknownMethod,
    /// The method's own parameters are wrong.
    InvalidMethodParams,
    /// No such tool.
    UnknownTool,
    /// No such prompt.
    UnknownPrompt,
    /// No such resource.
    UnknownResource,
    /// No such resource, before 2026-07-28: the code is another.
    UnknownLegacyResource,
    /// No such session, or it has ended.
    UnknownSession,
    /// The method belongs to a session, and the request names none.
    SessionNeeded,
    /// A stream that is not there, or is another session's.
    UnknownStream,
    /// The session has a stream already.
    StreamTaken,
    /// Too many subscriptions, or streams.
    TooManySubscriptions,
    /// A request state that was not written by this server, not for this request, or too long ago.
    InvalidState,
    /// A response to a request this server never made.
    UnknownRequest,
    /// No such task.
    UnknownTask,
    /// Arguments that do not fit the tool's schema: for the model to mend.
    InvalidArguments,
    /// Arguments that would take too long to validate.
    ValidationWork,
    /// As many calls in flight, or waiting, as may be.
    Busy,
    /// The tool panicked.
    ToolPanicked,
    /// The tool's result does not fit the schema it promises.
    InvalidOutput,
    /// The tool did not answer in time.
    Deadline,
    /// No refusal: the call ends with a question.
    InputRequired,
}

impl Refused {
    /// The code of the JSON-RPC error; none for what is told to the model in a result.
    #[must_use]
    pub fn code(self) -> Option<ErrorCode> {
        Some(match self {
            Self::NotJson => ErrorCode::ParseError,
            Self::BeyondLimits(_) | Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::InvalidParams
            | Self::InvalidMethodParams
            | Self::UnknownTool
            | Self::UnknownPrompt
            | Self::UnknownResource
            | Self::InvalidState
            | Self::UnknownTask => ErrorCode::InvalidParams,
            Self::UnknownLegacyResource => ErrorCode::ResourceNotFound,
            Self::UnknownSession => ErrorCode::SessionNotFound,
            Self::SessionNeeded | Self::StreamTaken => ErrorCode::Generic,
            Self::UnknownRequest | Self::UnknownStream => ErrorCode::InvalidRequest,
            Self::TooManySubscriptions => ErrorCode::InternalError,
            Self::HeaderMismatch => ErrorCode::HeaderMismatch,
            Self::MissingCapability => ErrorCode::MissingRequiredClientCapability,
            Self::UnsupportedVersion => ErrorCode::UnsupportedProtocolVersion,
            Self::UnknownLegacyVersion | Self::Busy => ErrorCode::Generic,
            Self::UnknownMethod => ErrorCode::MethodNotFound,
            Self::ToolPanicked | Self::InvalidOutput => ErrorCode::InternalError,
            Self::InvalidArguments | Self::ValidationWork | Self::Deadline | Self::InputRequired => {
                return None;
            }
        })
    }

    /// The HTTP status it is answered with.
    #[must_use]
    pub fn status(self, revision: Revision) -> Status {
        match self {
            Self::NotJson
            | Self::BeyondLimits(_)
            | Self::InvalidRequest
            | Self::InvalidParams
            | Self::HeaderMismatch
            | Self::MissingCapability
            | Self::UnsupportedVersion
            | Self::UnknownLegacyVersion
            | Self::SessionNeeded
            | Self::UnknownRequest
            | Self::UnknownStream => Status::BadRequest,
            Self::UnknownSession => Status::NotFound,
            Self::StreamTaken => Status::Conflict,
            Self::UnknownMethod if revision.is_modern() => Status::NotFound,
            Self::Busy => Status::ServiceUnavailable,
            _ => Status::Ok,
        }
    }

    /// The metric it is counted under.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::BeyondLimits(name) => name,
            Self::InvalidRequest => "invalid_request",
            Self::InvalidParams => "invalid_params",
            Self::HeaderMismatch => "header_mismatch",
            Self::MissingCapability => "missing_capability",
            Self::UnsupportedVersion => "unsupported_version",
            Self::UnknownLegacyVersion => "unknown_legacy_version",
            Self::UnknownMethod => "unknown_method",
            Self::InvalidMethodParams => "invalid_method_params",
            Self::UnknownTool => "unknown_tool",
            Self::UnknownPrompt => "unknown_prompt",
            Self::UnknownResource | Self::UnknownLegacyResource => "unknown_resource",
            Self::UnknownSession => "unknown_session",
            Self::SessionNeeded => "session_needed",
            Self::UnknownStream => "unknown_stream",
            Self::StreamTaken => "stream_taken",
            Self::TooManySubscriptions => "too_many_subscriptions",
            Self::InvalidState => "invalid_state",
            Self::UnknownRequest => "unknown_request",
            Self::UnknownTask => "unknown_task",
            Self::InvalidArguments => "invalid_arguments",
            Self::ValidationWork => "validation_work",
            Self::Busy => "busy",
            Self::ToolPanicked => "tool_panicked",
            Self::InvalidOutput => "invalid_output",
            Self::Deadline => "deadline",
            Self::InputRequired => "input_required",
        }
    }
}

/// What is to be done with a message.
pub enum Outcome<'a> {
    /// The answer is in the buffer: 200.
    Reply(CallMethod),
    /// As [`Outcome::Reply`], to a handshake. Over HTTP a session has been opened, of this id.
    Agreed(Handshake, Option<String>),
    /// The refusal is in the buffer. The text is its message, which names what the client asked for, cut.
    Refused(Status, CallMethod, Refused, Cow<'static, str>),
    /// As [`Outcome::Refused`], to a call of this tool.
    RefusedCall(Status, Refused, &'a SharedCallable),
    /// Nothing is answered: 202.
    Accepted,
    /// Run this.
    Run(Call<'a>),
    /// Open a stream of notifications (2026-07-28).
    Listen(Wanted),
    /// Do this for a legacy session, or for a connection, and then answer.
    Tied(Id<'a>, Tie, SessionAction),
    /// A client has answered a question.
    Answered(ClientAnswer),
    /// A legacy client does not want the answer to this request any more.
    Cancelled(Tie, OwnedId),
    /// Ask whoever keeps the task.
    Task(Id<'a>, TaskRequest),
}

/// What a legacy session asks of whoever keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAction {
    /// `logging/setLevel`
    SetLevel(Level),
    /// `resources/subscribe`
    Subscribe(String),
    /// `resources/unsubscribe`
    Unsubscribe(String),
}

impl SessionAction {
    /// The method that asks for it.
    #[must_use]
    pub fn method(&self) -> CallMethod {
        match self {
            Self::SetLevel(_) => CallMethod::SetLevel,
            Self::Subscribe(_) => CallMethod::Subscribe,
            Self::Unsubscribe(_) => CallMethod::Unsubscribe,
        }
    }
}

/// A client's answer to a question of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientAnswer {
    /// The question.
    pub question: super::questions::QuestionId,
    /// The session that answers, if one does.
    pub session: Option<SessionKey>,
    /// The result, or an error's code and message.
    pub answer: Result<Value, (i64, String)>,
}

/// Something to be run, whose input has been checked.
pub struct Call<'a> {
    /// What.
    pub callable: &'a SharedCallable,
    /// Its input, on the tape.
    pub input: Node<'a>,
    /// The request's id.
    pub id: Id<'a>,
    /// The revision the client speaks.
    pub revision: Revision,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// What ties it to other requests.
    pub tie: Tie,
    /// What it may say and ask while it runs; nothing, if that was not asked for.
    pub details: Option<Box<CallDetails>>,
    /// What a request state would be bound to; needed only where the client can be asked. Boxed, for most calls are moved
    /// without it.
    pub binding: Option<Box<Binding>>,
}

/// Stands for a method and its parameters: a request state is good for the same only.
pub type Binding = [u8; 32];

impl Tie {
    /// The session's name, if there is a session.
    #[must_use]
    pub fn session(self) -> Option<Session> {
        match self {
            Self::Session(session) => Some(session),
            Self::None | Self::Connection => None,
        }
    }
}
