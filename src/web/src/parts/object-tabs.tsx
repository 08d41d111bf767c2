// The tabs that every object's page ends with: what happened to it, and what it is.

import { lazy, Suspense } from "react";
import type { Obj } from "../api/objects";
import type { Words } from "../i18n";
import { EventsOf } from "./events";
import { Loading } from "./states";

const YamlView = lazy(() => import("./yaml-view"));

export function lastTabs(object: Obj, t: Words["t"]) {
  return [
    { key: "events", label: t("common.events"), children: <EventsOf object={object} /> },
    {
      key: "yaml",
      label: t("common.yaml"),
      children: (
        <Suspense fallback={<Loading />}>
          <YamlView object={object} />
        </Suspense>
      ),
    },
  ];
}
