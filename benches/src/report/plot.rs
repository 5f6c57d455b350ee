//! The plots: SVG without a background, in colours that stand out from light and from dark.

use std::path::Path;

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
        Contender::Floor => RGBColor(139, 148, 158),
        Contender::Raw => RGBColor(63, 160, 120),
        Contender::Official => RGBColor(210, 132, 34),
    }
}

/// All for which something was measured.
pub(crate) fn all(findings: &Findings, folder: &Path) -> Result<()> {
    let by_case = |figure: &dyn Fn(&'static str, Contender) -> Option<f64>| -> Vec<Group> {
        let group = |case: &Case| Group {
            title: case.title,
            values: Contender::ALL.map(|contender| figure(case.name, contender)),
        };
        findings.cases().map(group).collect()
    };
    bars(
        &folder.join("throughput.svg"),
        "Jobs (chunks, updates) a second, logarithmic: more is better",
        &by_case(&|case, contender| findings.per_second(case, contender)),
    )?;
    bars(
        &folder.join("cpu.svg"),
        "CPU milliseconds of the worker for each, logarithmic: less is better",
        &by_case(&|case, contender| findings.cpu(case, contender)),
    )?;
    bars(
        &folder.join("memory.svg"),
        "Peak memory of the worker, MB, logarithmic: less is better",
        &by_case(&|case, contender| Some(findings.peak(case, contender)? / 1e6)),
    )?;
    if let [run, ..] = findings.runs("million", Contender::Ours) {
        memory(&folder.join("million.svg"), &run.memory)?;
    }
    Ok(())
}

/// What stands together: a bar for each contender.
struct Group {
    title: &'static str,
    values: [Option<f64>; Contender::ALL.len()],
}

/// A plotting library's errors borrow what they are about.
fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Horizontal bars on a logarithmic scale: a runtime and an interpreter are orders of magnitude apart.
fn bars(path: &Path, title: &str, groups: &[Group]) -> Result<()> {
    const TITLES: i32 = 260;
    const BAR: i32 = 13;
    const TOP: i32 = 56;
    let bars = BAR * i32::try_from(Contender::ALL.len())?;
    let group_height = bars + 12;
    let values = || groups.iter().flat_map(|group| group.values).flatten();
    let (least, most) = values().fold((f64::MAX, f64::MIN), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    if least > most {
        return Ok(());
    }
    let (from, to) = (least.max(f64::MIN_POSITIVE).log10().floor(), most.log10());
    let room = f64::from(i32::try_from(WIDTH)? - TITLES - 90);
    #[expect(clippy::cast_possible_truncation, reason = "a place on the page")]
    let length = |value: f64| ((value.log10() - from) / (to - from) * room).max(1.0) as i32;

    let height = TOP + group_height * i32::try_from(groups.len())?;
    let area = SVGBackend::new(path, (WIDTH, height.try_into()?)).into_drawing_area();
    let style = |size: i32, horizontal| {
        (FONT, size)
            .into_font()
            .color(&TEXT)
            .pos(Pos::new(horizontal, VPos::Center))
    };
    let write = |text: &str, size, horizontal, at| {
        area.draw(&Text::new(text.to_owned(), at, style(size, horizontal)))
            .map_err(told)
    };
    write(title, 16, HPos::Left, (8, 16))?;
    for (place, contender) in (0..).zip(Contender::ALL) {
        let left = TITLES + place * 110;
        let square = [(left, 32), (left + 10, 42)];
        area.draw(&Rectangle::new(square, colour(contender).filled()))
            .map_err(told)?;
        write(&contender.to_string(), 13, HPos::Left, (left + 16, 37))?;
    }
    for (place, group) in (0..).zip(groups) {
        let top = TOP + place * group_height;
        write(group.title, 13, HPos::Right, (TITLES - 10, top + bars / 2))?;
        for (row, (contender, value)) in (0..).zip(Contender::ALL.into_iter().zip(group.values)) {
            let Some(value) = value else { continue };
            let (left, top) = (TITLES, top + row * BAR);
            let right = left + length(value);
            let bar = [(left, top + 1), (right, top + BAR - 1)];
            area.draw(&Rectangle::new(bar, colour(contender).filled()))
                .map_err(told)?;
            write(&number(value), 11, HPos::Left, (right + 5, top + BAR / 2))?;
        }
    }
    Ok(area.present().map_err(told)?)
}

/// Memory over time.
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
        .map_err(told)?;
    chart
        .configure_mesh()
        .x_desc("s")
        .label_style(font(12))
        .axis_style(TEXT)
        .bold_line_style(TEXT.mix(0.25))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(told)?;
    let points = memory.iter().map(|(at, bytes)| (*at, bytes / 1e6));
    let line = LineSeries::new(points, colour(Contender::Ours).stroke_width(2));
    chart.draw_series(line).map_err(told)?;
    Ok(area.present().map_err(told)?)
}
