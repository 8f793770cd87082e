// The filters of the grid's headers.

/** What a condition of a filter asks of a value. */
const CONDITIONS = {
  equals: (value, one) => value === one, notEqual: (value, one) => value !== one,
  lessThan: (value, one) => value < one, lessThanOrEqual: (value, one) => value <= one,
  greaterThan: (value, one) => value > one, greaterThanOrEqual: (value, one) => value >= one,
  inRange: (value, one, other) => value >= one && value <= other,
  contains: (value, one) => value.includes(one), notContains: (value, one) => !value.includes(one),
  startsWith: (value, one) => value.startsWith(one), endsWith: (value, one) => value.endsWith(one),
  blank: (value) => value === "" || Number.isNaN(value), notBlank: (value) => value !== "" && !Number.isNaN(value),
};

/** Makes the test of a column's filter, in any case of letters. @returns {(row: number) => boolean} */
function columnTest(column, model) {
  const folded = (value) => (typeof value === "string" ? lower(value) : value);
  const tests = (model.conditions || [model]).map(({ type, filter, filterTo }) => {
    const [one, other] = [folded(filter), folded(filterTo)];
    return (value) => CONDITIONS[type](value, one, other);
  });
  const valueAt = column.kind === "number" ? (row) => columns[column.name][row] : (row) => lower(gridValue(column, row) || "");
  const passes = model.operator === "OR" ? (value) => tests.some((test) => test(value)) : (value) => tests.every((test) => test(value));
  return (row) => passes(valueAt(row));
}
