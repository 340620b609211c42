/** Our own shapes of numbers. Each has its figures as text too, for who cannot see it. */

import { useId } from "react";

export interface Bar {
  label: string; // under it
  title: string; // of the whole bar, with its figures
  parts: readonly { name: string; value: number }[];
}

const H = 160;

/** Stacked bars; `names` in the order of their colours, five at most. */
export function Bars({
  bars,
  names,
  label,
  format,
}: {
  bars: readonly Bar[];
  names: readonly string[];
  label: string;
  format: (value: number) => string;
}) {
  const high = niceCeiling(Math.max(...bars.map(sumOf), 0));
  const every = Math.ceil(bars.length / 6); // so many labels have room
  return (
    <figure className="chart" aria-label={label}>
      <div className="chart-body">
        <div className="chart-scale numbers" aria-hidden="true">
          <span>{format(high)}</span>
          <span>{format(high / 2)}</span>
          <span>{format(0)}</span>
        </div>
        <div className="chart-bars" role="img" aria-label={`${label}: ${bars.map(({ title }) => title).join("; ")}`}>
          {bars.map((bar, i) => (
            <div className="chart-bar" key={`${bar.label}-${i}`} title={bar.title}>
              <svg viewBox={`0 0 10 ${H}`} preserveAspectRatio="none" aria-hidden="true">
                {stack(bar, names, high).map(({ name, y, height }) => (
                  <rect
                    key={name}
                    className={`tone-${names.indexOf(name) + 1}`}
                    x="0"
                    width="10"
                    y={y}
                    height={height}
                  />
                ))}
              </svg>
              <span className="chart-label numbers">{i % every === 0 ? bar.label : ""}</span>
            </div>
          ))}
        </div>
      </div>
      <figcaption className="legend">
        {names.map((name, i) => (
          <span key={name}>
            <svg width="10" height="10" aria-hidden="true">
              <rect className={`tone-${i + 1}`} width="10" height="10" rx="2" />
            </svg>
            {name}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}

const sumOf = ({ parts }: Bar): number => parts.reduce((sum, { value }) => sum + value, 0);

function stack(bar: Bar, names: readonly string[], high: number): { name: string; y: number; height: number }[] {
  let top = H;
  return names.flatMap((name) => {
    const value = bar.parts.find((part) => part.name === name)?.value ?? 0;
    if (value <= 0 || high <= 0) return [];
    const height = (value / high) * H;
    top -= height;
    return [{ name, y: top, height }];
  });
}

/** The next 1, 2 or 5 times a power of ten. */
export function niceCeiling(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((each) => each * power >= value * 0.999_999) ?? 10;
  return step * power;
}

/** A line without axes. */
export function Spark({ values, label }: { values: readonly number[]; label: string }) {
  const id = useId();
  if (values.length < 2) return null;
  const high = Math.max(...values, Number.MIN_VALUE);
  const points = values.map((value, i) => `${(i / (values.length - 1)) * 100},${24 - (value / high) * 22}`);
  return (
    <svg className="spark" viewBox="0 0 100 25" preserveAspectRatio="none" role="img" aria-labelledby={id}>
      <title id={id}>{label}</title>
      <polyline points={points.join(" ")} />
    </svg>
  );
}
