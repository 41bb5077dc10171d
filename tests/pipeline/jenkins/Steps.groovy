/** The steps, as a stage's `steps` and `post` see them. */
class Steps {
  private final Build build
  Steps(Build build) { this.build = build }
  Build getCurrentBuild() { build }
  void sh(String script) { build.shell(script) }
  void echo(String text) { build.echo(text) }
  void error(String text) { build.echo(text); throw new StepFailed(text) }
  void junit(Map given) { build.junit(given) }
  void recordCoverage(Map given) { build.coverage(given) }
  void archiveArtifacts(Map given) { build.archive(given) }
  void stash(Map given) { build.stash(given) }
  void unstash(String name) { build.unstash(name) }
  boolean fileExists(String path) { build.exists(path) }
  String readFile(String path) { build.read(path) }
  Map string(Map given) { [id: given.credentialsId, kind: 'string', variables: [given.variable]] }
  Map file(Map given) { [id: given.credentialsId, kind: 'file', variables: [given.variable]] }
  Map usernamePassword(Map given) {
    [id: given.credentialsId, kind: 'usernamePassword', variables: [given.usernameVariable, given.passwordVariable]]
  }
  void withCredentials(List<Map> wanted, Closure body) {
    if (wanted.any { !it.id || it.variables.any { name -> !name } }) throw new StepFailed("credentials: ${wanted}")
    build.credentials(wanted) { Declarative.within(this, body) }
  }
  void withSonarQubeEnv(String server, Closure body) { build.sonarqube(server) { Declarative.within(this, body) } }
  void waitForQualityGate(Map given) { build.gate((boolean) given.abortPipeline) }
  void script(Closure body) { Declarative.within(this, body) }
  void retry(int times, Closure body) {
    for (int attempt = 1; ; attempt++) {
      try {
        Declarative.within(this, body)
        return
      } catch (StepFailed failed) {
        if (attempt == times) throw failed
        build.echo("Retrying after: ${failed.message}")
      }
    }
  }
}
