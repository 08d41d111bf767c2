// Whether a person is there: sessions end by idleness, and open pages must not hold them.

let last = Date.now();

for (const event of ["pointerdown", "keydown", "wheel"]) {
  window.addEventListener(
    event,
    () => {
      last = Date.now();
    },
    { passive: true, capture: true },
  );
}

/** Milliseconds since somebody did something here. */
export const quietFor = (): number => Date.now() - last;

/** The header of every request of the page. */
export const pageHeader = (): Record<string, string> => ({
  "X-Holdfast-Page": quietFor() < 60_000 ? "active" : "watching",
});

export const somebodyIsHere = (): void => {
  last = Date.now();
};
