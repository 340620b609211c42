// Imports go one way: lib -> api -> ui -> features -> app; features are strangers to each other.
const layer = (name, from, to) => ({ name, severity: "error", from: { path: from }, to: { path: to } });

module.exports = {
  forbidden: [
    { name: "no-circular", severity: "error", from: {}, to: { circular: true } },
    layer("lib-knows-nothing", "^src/lib", "^src/(api|ui|features|app)"),
    layer("api-knows-lib", "^src/api", "^src/(ui|features|app)"),
    layer("ui-knows-api-and-lib", "^src/ui", "^src/(features|app)"),
    layer("features-know-no-app", "^src/features", "^src/app"),
    {
      name: "features-are-strangers",
      severity: "error",
      from: { path: "^src/features/([^/]+)/" },
      to: { path: "^src/features/", pathNot: "^src/features/$1/" },
    },
    {
      name: "no-orphans",
      severity: "error",
      from: { orphan: true, pathNot: "(\\.d\\.ts|\\.test\\.tsx?|testing/setup\\.ts)$" },
      to: {},
    },
    {
      name: "not-to-tests",
      severity: "error",
      from: { pathNot: "\\.test\\.tsx?$|^src/testing" },
      to: { path: "\\.test\\.tsx?$|^src/testing" },
    },
  ],
  options: {
    tsConfig: { fileName: "tsconfig.json" },
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
  },
};
