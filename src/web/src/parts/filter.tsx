// The field by which what is listed is narrowed or searched.

import { Input } from "antd";

export function Filter({
  label,
  typed,
  onType,
  onEnter,
}: {
  label: string;
  typed: string;
  onType: (typed: string) => void;
  onEnter?: (backwards: boolean) => void;
}) {
  return (
    <Input
      allowClear
      className="filter"
      placeholder={label}
      aria-label={label}
      value={typed}
      onChange={(event) => onType(event.target.value)}
      onPressEnter={(event) => onEnter?.(event.shiftKey)}
    />
  );
}
