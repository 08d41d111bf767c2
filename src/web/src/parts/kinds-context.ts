// The kinds that the server has, for every component.

import { createContext, useContext } from "react";
import type { Kind } from "../api/kinds";

export const KindsContext = createContext<Kind[]>([]);
export const useKinds = (): Kind[] => useContext(KindsContext);
