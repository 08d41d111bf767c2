// The page begins here.

import { createRoot } from "react-dom/client";
import { App } from "./app";
import { allowOwnStyles } from "./csp";
import "./style.css";

allowOwnStyles();
const root = document.getElementById("page");
if (root) createRoot(root).render(<App />);
