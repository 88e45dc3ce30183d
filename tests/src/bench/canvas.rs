//! The few strokes the picture is made of, in pixels, and a horizontal axis.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub enum Side {
    /// Begins there.
    Right,
    /// Ends there.
    Left,
    /// Centred.
    Middle,
}

/// How a text looks.
#[derive(Clone, Copy)]
pub struct Ink {
    /// Height in pixels.
    pub size: f64,
    /// Colour.
    pub color: RGBColor,
    /// Bold.
    pub bold: bool,
}

impl Ink {
    /// A regular text.
    pub const fn new(size: f64, color: RGBColor) -> Self {
        Self {
            size,
            color,
            bold: false,
        }
    }

    /// The same in bold.
    pub const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }
}

/// A sheet to draw on.
pub struct Canvas<'a>(DrawingArea<SVGBackend<'a>, Shift>);

impl<'a> Canvas<'a> {
    /// A white sheet that becomes a file.
    pub fn new(path: &'a std::path::Path, size: (u32, u32)) -> Result<Self> {
        let area = SVGBackend::new(path, size).into_drawing_area();
        area.fill(&WHITE).map_err(|e| failed(&e))?;
        Ok(Self(area))
    }

    /// Writes the file.
    pub fn finish(self) -> Result<()> {
        self.0.present().map_err(|e| failed(&e))
    }

    /// Text at a point, vertically centred on it.
    pub fn text(&self, text: &str, at: (i32, i32), side: Side, ink: Ink) -> Result<()> {
        let horizontal = match side {
            Side::Right => HPos::Left,
            Side::Left => HPos::Right,
            Side::Middle => HPos::Center,
        };
        let style = if ink.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        // The backend divides font sizes by 1.24.
        let font = FontDesc::new(FontFamily::SansSerif, ink.size * 1.24, style);
        let style = TextStyle::from(font)
            .color(&ink.color)
            .pos(Pos::new(horizontal, VPos::Center));
        self.0.draw_text(text, &style, at).map_err(|e| failed(&e))
    }

    /// A straight line.
    pub fn line(
        &self,
        from: (i32, i32),
        to: (i32, i32),
        color: RGBColor,
        width: u32,
    ) -> Result<()> {
        let path = PathElement::new(vec![from, to], color.stroke_width(width));
        self.0.draw(&path).map_err(|e| failed(&e))
    }

    /// A filled box, `alpha` from 0 to 1.
    pub fn block(
        &self,
        from: (i32, i32),
        to: (i32, i32),
        color: RGBColor,
        alpha: f64,
    ) -> Result<()> {
        let block = Rectangle::new([from, to], color.mix(alpha).filled());
        self.0.draw(&block).map_err(|e| failed(&e))
    }

    /// A filled dot, `alpha` from 0 to 1.
    pub fn dot(&self, at: (i32, i32), radius: i32, color: RGBColor, alpha: f64) -> Result<()> {
        let dot = Circle::new(at, radius, color.mix(alpha).filled());
        self.0.draw(&dot).map_err(|e| failed(&e))
    }
}

fn failed<E: std::error::Error + Send + Sync>(error: &DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("cannot draw the picture: {error}")
}

/// A horizontal axis: values to pixels.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    pixels: (i32, i32),
    values: (f64, f64),
}

impl Axis {
    /// An axis over `values`, from left to right over `pixels`.
    pub const fn new(pixels: (i32, i32), values: (f64, f64)) -> Self {
        Self { pixels, values }
    }

    /// The pixel of a value; what lies outside ends up at the edge.
    pub fn at(&self, value: f64) -> i32 {
        let (low, high) = self.values;
        let part = ((value - low) / (high - low)).clamp(0.0, 1.0);
        let width = f64::from(self.pixels.1 - self.pixels.0);
        self.pixels.0 + (part * width).round() as i32
    }

    /// Round values at which to put about `count` ticks, with the decimals they need.
    pub fn ticks(&self, count: f64) -> (Vec<f64>, usize) {
        let (low, high) = self.values;
        let rough = (high - low) / count;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|f| f * power)
            .into_iter()
            .find(|s| *s >= rough)
            .unwrap_or(power);
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        #[expect(clippy::cast_precision_loss, reason = "a handful of ticks")]
        let ticks = (first..=last).map(|n| n as f64 * step).collect();
        let decimals = (-step.log10().floor()).max(0.0);
        #[expect(clippy::cast_sign_loss, reason = "at least 0")]
        let decimals = decimals as usize;
        (ticks, decimals)
    }

    /// Draws the ticks from `top` to `bottom`, labelled below.
    pub fn draw(
        &self,
        canvas: &Canvas,
        (top, bottom): (i32, i32),
        grid: RGBColor,
        ink: Ink,
    ) -> Result<()> {
        let (ticks, decimals) = self.ticks(6.0);
        for tick in ticks {
            let x = self.at(tick);
            canvas.line((x, top), (x, bottom), grid, 1)?;
            canvas.text(
                &format!("{tick:.decimals$}"),
                (x, bottom + 12),
                Side::Middle,
                ink,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_maps_its_ends_and_keeps_outliers_inside() {
        let axis = Axis::new((100, 300), (0.0, 10.0));
        assert_eq!(
            [0.0, 5.0, 10.0, 99.0, -1.0].map(|v| axis.at(v)),
            [100, 200, 300, 300, 100]
        );
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let (ticks, decimals) = Axis::new((0, 1), (0.8, 1.3)).ticks(6.0);
        assert_eq!(decimals, 1);
        let shown: Vec<String> = ticks.iter().map(|t| format!("{t:.1}")).collect();
        assert_eq!(shown, ["0.8", "0.9", "1.0", "1.1", "1.2", "1.3"]);
        assert_eq!(
            Axis::new((0, 1), (0.0, 42.0)).ticks(6.0),
            (vec![0.0, 10.0, 20.0, 30.0, 40.0], 0)
        );
    }
}
