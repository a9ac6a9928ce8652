use std::path::Path;

use plotters::prelude::*;

use super::{LENGTH, ROW_HZ, ROWS, SPEED, Trace};

const SIZE: (u32, u32) = (960, 420);
const GREY: RGBColor = RGBColor(150, 150, 150);
const ORANGE: RGBColor = RGBColor(230, 120, 20);

/// Writes an SVG with a panel for each run: what each chunk planned, what the joint did, and what it
/// would have done without an inference time.
pub(super) fn write(path: &Path, runs: &[(&str, &Trace)]) -> anyhow::Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    for (panel, (name, trace)) in area.split_evenly((1, runs.len())).iter().zip(runs) {
        draw(panel, name, trace).map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    area.present()?;
    Ok(())
}

type Panel<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(panel: &Panel<'_>, name: &str, trace: &Trace) -> Result<(), Box<dyn std::error::Error>> {
    let start = trace.executed.first().map_or(0.0, |(_, angle)| *angle);
    let first = trace.chunks.first().map_or(0.0, |(at, _)| *at);
    let highest = start + SPEED * LENGTH * 1.05;
    let mut chart = ChartBuilder::on(panel)
        .caption(name, ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..LENGTH, (start - 0.05)..highest)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("time [s]")
        .y_desc("first joint [rad]")
        .draw()?;
    let planned = [(first, start), (LENGTH, start + SPEED * (LENGTH - first))];
    chart.draw_series(DashedLineSeries::new(planned, 6, 4, BLACK.into()))?.label("planned").legend(
        |(x, y)| {
            EmptyElement::at((x, y))
                + PathElement::new([(0, 0), (6, 0)], BLACK)
                + PathElement::new([(10, 0), (16, 0)], BLACK)
        },
    );
    let chunks = trace.chunks.iter().map(|&(at, angle)| {
        let length = (f64::from(ROWS) / f64::from(ROW_HZ)).min(LENGTH - at);
        PathElement::new([(at, angle), (at + length, angle + SPEED * length)], GREY)
    });
    chart
        .draw_series(chunks)?
        .label("each chunk")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], GREY));
    chart
        .draw_series(LineSeries::new(trace.executed.iter().copied(), ORANGE.stroke_width(2)))?
        .label("executed")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], ORANGE.stroke_width(2)));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(GREY)
        .draw()?;
    Ok(())
}
