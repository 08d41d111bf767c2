// Builds the page for /ui/ into .build/page, from where build.rs takes it.
import { defineConfig } from "vite";

export default defineConfig({
  base: "/ui/",
  // Filled in by the server with each answer; see src/csp.ts.
  html: { cspNonce: "{{nonce}}" },
  build: {
    outDir: "../../.build/page",
    emptyOutDir: true,
    manifest: true,
    target: "es2022",
    // Nothing is inlined: the page's policy knows only files.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 2000,
    rollupOptions: {
      onwarn: (warning, warn) => {
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning);
      },
    },
  },
});
