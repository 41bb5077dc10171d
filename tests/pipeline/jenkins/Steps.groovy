/** The steps that are available in `steps` and `post`. */
class Steps {
  private final Build build
  Steps(Build build) { this.build = build }
  Build getCurrentBuild() { build }
  void sh(String script) { build.shell(script) }
  void echo(String text) { build.echo(text) }
  void error(String text) { build.echo(text); throw new StepFailed(text) }
  void junit(Map options) { build.junit(options) }
  void recordCoverage(Map options) { build.coverage(options) }
  void archiveArtifacts(Map options) { build.archive(options) }
  void stash(Map options) { build.stash(options) }
  void unstash(String name) { build.unstash(name) }
  boolean fileExists(String path) { build.exists(path) }
  String readFile(String path) { build.read(path) }
  Map string(Map options) { [id: options.credentialsId, kind: 'string', variables: [options.variable]] }
  Map file(Map options) { [id: options.credentialsId, kind: 'file', variables: [options.variable]] }
  Map usernamePassword(Map options) {
    [id: options.credentialsId, kind: 'usernamePassword', variables: [options.usernameVariable, options.passwordVariable]]
  }
  void withCredentials(List<Map> bindings, Closure body) {
    if (bindings.any { !it.id || it.variables.any { name -> !name } }) throw new StepFailed("credentials: ${bindings}")
    build.credentials(bindings) { Declarative.within(this, body) }
  }
  void withSonarQubeEnv(String server, Closure body) { build.sonarqube(server) { Declarative.within(this, body) } }
  void waitForQualityGate(Map options) { build.gate((boolean) options.abortPipeline) }
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
