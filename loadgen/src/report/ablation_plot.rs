//! The gains of an ablation as one image, which needs no other file.

use super::charts::gains;
use crate::{ablation::Ablation, error::LoadError};

/// Width of the image in pixels, and the style that a page does not need.
const SIZE: &str = r#"xmlns="http://www.w3.org/2000/svg" width="760""#;
const OWN_STYLE: &str = "svg { width: 760px; background: var(--paper); font-family: system-ui, sans-serif; } \
                         svg text { font-size: 125px; }";

/// Draws the gains, in the colours of the viewer's light or dark mode.
///
/// # Errors
/// When the chart cannot be drawn.
pub fn ablation_plot(ablation: &Ablation<'_>) -> Result<String, LoadError> {
    let chart = gains(&ablation.gains)?.into_string();
    let (head, content) = chart
        .strip_prefix("<svg ")
        .and_then(|rest| rest.split_once('>'))
        .ok_or_else(|| LoadError::Report("the chart is not an image".to_owned()))?;
    let style = include_str!("page.css");
    Ok(format!("<svg {SIZE} {head}><style>{style}{OWN_STYLE}</style>{content}\n"))
}
