//! The plots: SVG without a background, in colours for light and dark pages.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::contenders::programs::Contender;
use crate::error::Result;
use crate::measure::cases::Case;
use crate::report::findings::Findings;
use crate::report::number::number;

const WIDTH: u32 = 860;
const TEXT: RGBColor = RGBColor(118, 118, 118);
const FONT: &str = "sans-serif";

fn colour(contender: Contender) -> RGBColor {
    match contender {
        Contender::Ours => RGBColor(47, 129, 247),
        Contender::Before => RGBColor(154, 103, 215),
        Contender::Floor => RGBColor(139, 148, 158),
        Contender::Raw => RGBColor(63, 160, 120),
        Contender::Official => RGBColor(210, 132, 34),
    }
}

/// Draws all plots that have data.
pub(crate) fn all(findings: &Findings, folder: &Path) -> Result<()> {
    let contenders: Vec<Contender> = findings.contenders().collect();
    let by_case = |figure: &dyn Fn(&'static str, Contender) -> Option<f64>| -> Vec<Group> {
        let group = |case: &Case| Group {
            title: case.title,
            values: contenders
                .iter()
                .map(|contender| figure(case.name, *contender))
                .collect(),
        };
        findings.cases().map(group).collect()
    };
    bars(
        &folder.join("throughput.svg"),
        "Jobs (chunks, updates) per second, logarithmic: more is better",
        &contenders,
        &by_case(&|case, contender| findings.per_second(case, contender)),
    )?;
    bars(
        &folder.join("cpu.svg"),
        "CPU milliseconds of the worker per job (chunk, update), logarithmic: less is better",
        &contenders,
        &by_case(&|case, contender| findings.cpu(case, contender)),
    )?;
    bars(
        &folder.join("memory.svg"),
        "Peak memory of the worker, MB, logarithmic: less is better",
        &contenders,
        &by_case(&|case, contender| Some(findings.peak(case, contender)? / 1e6)),
    )?;
    if let [run, ..] = findings.runs("million", Contender::Ours) {
        memory(&folder.join("million.svg"), &run.memory)?;
    }
    Ok(())
}

/// The bars of one case, one for each contender.
struct Group {
    title: &'static str,
    values: Vec<Option<f64>>,
}

/// Converts an error of the plotting library, which borrows data, to text.
fn owned(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Draws horizontal bars on a logarithmic scale, because the contenders differ by orders of magnitude.
fn bars(path: &Path, title: &str, contenders: &[Contender], groups: &[Group]) -> Result<()> {
    let values = || groups.iter().flat_map(|group| &group.values).flatten();
    let (least, most) = values().fold((f64::MAX, f64::MIN), |(least, most), value| {
        (least.min(*value), most.max(*value))
    });
    if least > most {
        return Ok(());
    }
    let bars = BarChart::BAR * i32::try_from(contenders.len())?;
    let height = BarChart::TOP + (bars + BarChart::GAP) * i32::try_from(groups.len())?;
    let chart = BarChart {
        area: SVGBackend::new(path, (WIDTH, height.try_into()?)).into_drawing_area(),
        contenders,
        bars,
        from: least.max(f64::MIN_POSITIVE).log10().floor(),
        to: most.log10(),
    };
    chart.write(title, 16, HPos::Left, (8, 16))?;
    chart.legend()?;
    for (place, group) in (0..).zip(groups) {
        chart.group(BarChart::TOP + place * (bars + BarChart::GAP), group)?;
    }
    Ok(chart.area.present().map_err(owned)?)
}

/// A bar chart. Its scale is logarithmic, and `from` and `to` are its ends as exponents of ten.
struct BarChart<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    contenders: &'a [Contender],
    /// The total height of the bars of a group.
    bars: i32,
    from: f64,
    to: f64,
}

impl BarChart<'_> {
    /// The width of the titles, which are left of the bars.
    const TITLES: i32 = 260;
    const BAR: i32 = 13;
    /// The space between groups.
    const GAP: i32 = 12;
    /// The height of the title and the legend.
    const TOP: i32 = 56;

    #[expect(clippy::cast_possible_truncation, reason = "a position on the page")]
    fn length(&self, value: f64) -> i32 {
        let room = f64::from(WIDTH) - f64::from(Self::TITLES + 90);
        ((value.log10() - self.from) / (self.to - self.from) * room).max(1.0) as i32
    }

    fn write(&self, text: &str, size: i32, horizontal: HPos, at: (i32, i32)) -> Result<()> {
        let style = (FONT, size)
            .into_font()
            .color(&TEXT)
            .pos(Pos::new(horizontal, VPos::Center));
        let text = Text::new(text.to_owned(), at, style);
        Ok(self.area.draw(&text).map_err(owned)?)
    }

    fn fill(&self, corners: [(i32, i32); 2], contender: Contender) -> Result<()> {
        let rectangle = Rectangle::new(corners, colour(contender).filled());
        Ok(self.area.draw(&rectangle).map_err(owned)?)
    }

    fn legend(&self) -> Result<()> {
        for (place, contender) in (0..).zip(self.contenders) {
            let left = Self::TITLES + place * 110;
            self.fill([(left, 32), (left + 10, 42)], *contender)?;
            self.write(&contender.to_string(), 13, HPos::Left, (left + 16, 37))?;
        }
        Ok(())
    }

    fn group(&self, top: i32, group: &Group) -> Result<()> {
        let left = Self::TITLES;
        self.write(
            group.title,
            13,
            HPos::Right,
            (left - 10, top + self.bars / 2),
        )?;
        for (row, (contender, value)) in (0..).zip(self.contenders.iter().zip(&group.values)) {
            let Some(value) = value else { continue };
            let (top, right) = (top + row * Self::BAR, left + self.length(*value));
            self.fill([(left, top + 1), (right, top + Self::BAR - 1)], *contender)?;
            let middle = top + Self::BAR / 2;
            self.write(&number(*value), 11, HPos::Left, (right + 5, middle))?;
        }
        Ok(())
    }
}

/// Draws memory over time.
fn memory(path: &Path, memory: &[(f64, f64)]) -> Result<()> {
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let seconds = most(&mut memory.iter().map(|(at, _)| *at));
    let megabytes = most(&mut memory.iter().map(|(_, bytes)| bytes / 1e6));
    let area = SVGBackend::new(path, (WIDTH, 320)).into_drawing_area();
    let font = |size: i32| (FONT, size).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(&area)
        .caption("Memory of the worker over 1,000,000 jobs, MB", font(16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..seconds, 0.0..megabytes * 1.3)
        .map_err(owned)?;
    chart
        .configure_mesh()
        .x_desc("s")
        .label_style(font(12))
        .axis_style(TEXT)
        .bold_line_style(TEXT.mix(0.25))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(owned)?;
    let points = memory.iter().map(|(at, bytes)| (*at, bytes / 1e6));
    let line = LineSeries::new(points, colour(Contender::Ours).stroke_width(2));
    chart.draw_series(line).map_err(owned)?;
    Ok(area.present().map_err(owned)?)
}
