//! The report as pictures.

use crate::contenders::ENTRANTS;
use crate::{Results, output};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

type Drawing<'a> = DrawingArea<SVGBackend<'a>, Shift>;

struct Line {
    label: String,
    color: RGBColor,
    is_ours: bool,
    points: Vec<(f64, f64)>,
}

struct Plot<'a> {
    file: &'a str,
    title: &'a str,
    x: Axis<'a>,
    y: Axis<'a>,
    lines: Vec<Line>,
}

struct Axis<'a> {
    title: &'a str,
    format: fn(f64) -> String,
}

pub(crate) fn draw(out: &Path, results: &Results) -> Result<(), Box<dyn Error + Send + Sync>> {
    let time = Plot {
        file: "time.svg",
        title: "Time per key at steady state, one thread, expiry included",
        x: Axis { title: "live keys", format: short },
        y: Axis { title: "ns per key", format: short },
        lines: lines(|name| {
            let more = results.ten_times.iter().filter(|speed| speed.live > results.large);
            let speeds = results.speeds.iter().chain(more).filter(|speed| speed.name == name && speed.threads == 1);
            speeds.map(|speed| (speed.live as f64, speed.ns_per_key())).collect()
        }),
    };
    let memory = Plot {
        file: "memory.svg",
        title: "Resident memory per live key",
        x: Axis { title: "live keys", format: short },
        y: Axis { title: "bytes per key", format: short },
        lines: lines(|name| {
            let memories = results.memories.iter().filter(|memory| memory.name == name);
            memories.map(|memory| (memory.live as f64, memory.bytes_per_key())).collect()
        }),
    };
    let latency = Plot {
        file: "latency.svg",
        title: "Time of a single call: growing from empty, a tenth expiring at once, steady state",
        x: Axis { title: "share of calls that are faster", format: share },
        y: Axis { title: "time of the call", format: |nanos| output::duration(nanos as u32) },
        lines: lines(|name| latency_points(results, name)),
    };
    for plot in [time, memory, latency] {
        plot.draw(out)?;
    }
    Ok(())
}

fn lines(points: impl Fn(&str) -> Vec<(f64, f64)>) -> Vec<Line> {
    let line = |(name, color): (&str, &RGBColor)| Line {
        label: name.replace('_', " "),
        color: *color,
        is_ours: name.starts_with("oncewheel"),
        points: points(name),
    };
    let names = ENTRANTS.iter().map(|entrant| entrant.name);
    names.zip(&COLORS).map(line).filter(|line| !line.points.is_empty()).collect()
}

/// Ours are blue and green.
const COLORS: [RGBColor; ENTRANTS.len()] = [
    RGBColor(0, 0, 0),
    RGBColor(0, 70, 200),
    RGBColor(70, 140, 255),
    RGBColor(30, 170, 120),
    RGBColor(0, 110, 70),
    RGBColor(0, 170, 200),
    RGBColor(215, 40, 40),
    RGBColor(240, 130, 20),
    RGBColor(150, 110, 40),
    RGBColor(190, 40, 170),
    RGBColor(130, 130, 130),
];

/// By how many calls there are to one that is as slow: 10, 100, 1,000 and so on, up to all of them.
fn latency_points(results: &Results, name: &str) -> Vec<(f64, f64)> {
    let Some(latency) = results.latencies.iter().find(|latency| latency.name == name) else { return Vec::new() };
    let calls = latency.calls() as f64;
    let steps = (0..).map(|step| 10f64.powf(f64::from(step) / 8.0)).take_while(|one_in| *one_in < calls);
    steps.chain([calls]).map(|one_in| (one_in, f64::from(latency.slowest(1.0 / one_in)).max(1.0))).collect()
}

/// 10 becomes 90 %, 100 becomes 99 %.
fn share(one_in: f64) -> String {
    let nines = one_in.log10().round() as usize;
    format!("{:.*} %", nines.saturating_sub(2), 100.0 - 100.0 / one_in)
}

fn short(number: f64) -> String {
    match number {
        1e6.. => format!("{} M", number / 1e6),
        1e3.. => format!("{} k", number / 1e3),
        _ => format!("{number}"),
    }
}

const SIZE: (u32, u32) = (960, 540);
const LEGEND_WIDTH: u32 = 220;
const LEGEND_STEP: i32 = 22;

impl Plot<'_> {
    fn draw(&self, out: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
        let path = out.join(self.file);
        let root = SVGBackend::new(&path, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (chart, legend) = root.split_horizontally(SIZE.0 - LEGEND_WIDTH);
        self.draw_chart(&chart)?;
        self.draw_legend(&legend)?;
        root.present()?;
        Ok(())
    }

    fn draw_chart(&self, area: &Drawing<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (x_min, x_max) = bounds(points().map(|(x, _)| *x));
        let (y_min, y_max) = bounds(points().map(|(_, y)| *y));
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d((x_min..x_max).log_scale(), decades(y_min, y_max).log_scale())?;
        chart
            .configure_mesh()
            .x_desc(self.x.title)
            .y_desc(self.y.title)
            .x_label_formatter(&|x| (self.x.format)(*x))
            .y_label_formatter(&|y| (self.y.format)(*y))
            .light_line_style(RGBColor(240, 240, 240))
            .draw()?;
        for line in &self.lines {
            chart.draw_series(LineSeries::new(line.points.iter().copied(), line.style()))?;
        }
        Ok(())
    }

    /// The names in the order of their lines, top to bottom, at the end of the shortest line.
    fn draw_legend(&self, area: &Drawing<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let end = self.lines.iter().filter_map(|line| line.points.last()).map(|(x, _)| *x).fold(f64::MAX, f64::min);
        let height = |line: &Line| line.points.iter().rev().find(|(x, _)| *x <= end).map_or(0.0, |(_, y)| *y);
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_by(|a, b| height(b).total_cmp(&height(a)));
        for (at, line) in (0..).zip(lines) {
            let y = 60 + at * LEGEND_STEP;
            area.draw(&PathElement::new([(6, y + 7), (30, y + 7)], line.style()))?;
            area.draw(&Text::new(line.label.clone(), (38, y), ("sans-serif", 14).into_font().color(&line.color)))?;
        }
        Ok(())
    }
}

impl Line {
    fn style(&self) -> ShapeStyle {
        self.color.stroke_width(if self.is_ours { 3 } else { 2 })
    }
}

/// Whole decades, so that each has its label.
fn decades(min: f64, max: f64) -> std::ops::Range<f64> {
    10f64.powf(min.log10().floor())..10f64.powf(max.log10().ceil())
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN_POSITIVE), |(min, max), value| (min.min(value), max.max(value)))
}
